"""Invented characters as strokes: cubic curves on the anchors of an alphabet, drawn by hands that differ.

Everything is a function of the passed generator. Coordinates lie in a square of side 1, y downwards.

Shapes: C characters, D drawers, K strokes (padded), T points of a stroke, S side of a drawing in pixels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

STROKES, POINTS = 4, 12  # K, T
CANVAS = 112  # pixels on which a stroke is drawn before it is averaged down
SUBPIXEL = 4  # bits
APART = 0.06  # least modified Hausdorff distance between two characters of an alphabet
EXTENT = 0.4  # least width or height of a character
PLACE = 0.05  # standard deviation of a drawing's place, in sides of the square
TRIES = 50
THREADS = 2


class Hand(NamedTuple):
    """How D drawers differ; each is ``(D,)``.

    Args:
        rotation: Radians.
        slant: Tangent.
        width: Factor along x.
        height: Factor along y.
        right: Shift in sides of the square.
        down: Shift in sides of the square.
        pen: Pixels on the canvas.
        wobble: Standard deviation of a control point, in sides of the square.
    """

    rotation: np.ndarray
    slant: np.ndarray
    width: np.ndarray
    height: np.ndarray
    right: np.ndarray
    down: np.ndarray
    pen: np.ndarray
    wobble: np.ndarray


def invent_alphabet(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Invent ``count`` characters that can be told apart, in the style of one alphabet.

    Returns:
        Control points ``(C, K, 4, 2)`` and the number of strokes ``(C,)``.
    """
    side = rng.integers(3, 5)  # anchors along each axis
    axis = np.linspace(0.15, 0.85, side)
    anchors = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2) + rng.normal(0, 0.02, (side * side, 2))
    bend, loops, most = rng.uniform(0.05, 0.3), rng.uniform(0, 0.3), rng.integers(2, STROKES + 1)
    control = np.zeros((count, STROKES, 4, 2))
    strokes = np.zeros(count, dtype=np.int64)
    clouds = np.zeros((count, STROKES * POINTS, 2))
    for c in range(count):
        for _ in range(TRIES):
            many = rng.integers(1, most + 1, 2).max()
            drawn = _invent_strokes(anchors, bend, loops, many, rng)
            cloud = np.resize(along(drawn).reshape(-1, 2), clouds.shape[1:])
            large = np.ptp(cloud, axis=0).max() > EXTENT
            if large and (c == 0 or _distances(cloud, clouds[:c]).min() > APART):
                break
        control[c, : len(drawn)], strokes[c], clouds[c] = drawn, len(drawn), cloud
    return control, strokes


def draw_hands(count: int, rng: np.random.Generator) -> Hand:
    """Draw ``count`` drawers: pose, pen and steadiness."""
    return Hand(
        rotation=rng.normal(0, 0.12, count),
        slant=rng.normal(0, 0.15, count),
        width=rng.uniform(0.7, 1.1, count),
        height=rng.uniform(0.7, 1.1, count),
        right=rng.normal(0, 0.03, count),
        down=rng.normal(0, 0.03, count),
        pen=rng.uniform(3.0, 8.0, count),
        wobble=rng.uniform(0.015, 0.04, count),
    )


def along(control: np.ndarray) -> np.ndarray:
    """Return T points on cubic Bezier curves: ``(..., 4, 2)`` to ``(..., T, 2)``.

    >>> line = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    >>> along(line)[[0, -1], 0].tolist()
    [0.0, 3.0]
    """
    t = np.linspace(0, 1, POINTS)[:, None]
    basis = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)  # (T, 4)
    return basis @ control


def write_by_hand(control: np.ndarray, hand: Hand, rng: np.random.Generator) -> np.ndarray:
    """Let D drawers write C characters: control points ``(C, K, 4, 2)`` to points ``(C, D, K, T, 2)``."""
    count, drawers = len(control), len(hand.pen)
    noise = rng.normal(0, 1, (count, drawers, *control.shape[1:])) * hand.wobble[:, None, None, None]
    points = along(control[:, None] + noise) - 0.5
    cos, sin = np.cos(hand.rotation), np.sin(hand.rotation)
    slanted = np.stack([hand.width, -hand.slant * hand.height, np.zeros(drawers), hand.height], -1).reshape(-1, 2, 2)
    turn = np.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)
    pose = (turn @ slanted)[:, None]  # (D, 1, 2, 2)
    place = rng.normal(0, PLACE, (count, drawers, 1, 1, 2))
    shift = np.stack([hand.right, hand.down], -1)[:, None, None] + place
    return points @ pose.swapaxes(-1, -2) + shift + 0.5


def render(points: np.ndarray, strokes: np.ndarray, pen: np.ndarray, side: int) -> np.ndarray:
    """Draw ``(C, D, K, T, 2)`` points with ``strokes`` ``(C,)`` of them, as ``(C, D, S, S)`` uint8, black on white."""
    fixed = np.round(points * CANVAS * 2**SUBPIXEL).astype(np.int32)
    images = np.empty((*points.shape[:2], side, side), np.uint8)
    widths = np.maximum(np.round(pen), 1).astype(int).tolist()

    def fill(c: int) -> None:
        for d, width in enumerate(widths):
            canvas = np.full((CANVAS, CANVAS), 255, np.uint8)
            cv2.polylines(canvas, list(fixed[c, d, : strokes[c]]), False, 0, width, cv2.LINE_AA, SUBPIXEL)
            images[c, d] = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fill, range(len(points))))
    return images


def _invent_strokes(anchors: np.ndarray, bend: float, loops: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``(count, 4, 2)`` control points: each stroke starts where an earlier one started or ended, or anew."""
    drawn = np.zeros((count, 4, 2))
    for k in range(count):
        start, end = anchors[rng.choice(len(anchors), 2, replace=False)]
        if k and rng.random() < 0.6:
            start = drawn[rng.integers(k), rng.choice([0, 3])]
        if rng.random() < loops:
            reach = rng.uniform(0.5, 0.9) * rng.choice([-1, 1])
            outward = reach * np.array([[1.0, 0.4], [0.1, 1.0]])
            drawn[k] = start, *(start + outward), start
        else:
            middle = np.stack([start + (end - start) / 3, start + (end - start) * 2 / 3])
            drawn[k] = start, *(middle + rng.normal(0, bend, (2, 2))), end
    return drawn.clip(0.02, 0.98)


def _distances(cloud: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the modified Hausdorff distance of ``(N, 2)`` points to each of ``(M, N, 2)``."""
    squared = ((cloud[:, None] - others[:, None]) ** 2).sum(-1)  # (M, N, N)
    return np.maximum(np.sqrt(squared.min(2)).mean(1), np.sqrt(squared.min(1)).mean(1))
