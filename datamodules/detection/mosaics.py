"""Several photos on one canvas: a random division into tiles, a photo at a random scale in each, boxes that follow.

Lengths are pixels; a tile is ``(x, y, width, height)``; a box ``(x1, y1, x2, y2)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

MIN_TILE = 44  # pixels of the shorter side of a tile
SCALES = (0.75, 1.5)  # photo side / shorter side of its tile
STRETCH = 0.12  # aspect ratios vary by exp(+-STRETCH)


def divide(size: int, count: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Cut a square canvas into ``count`` tiles by splitting the largest one again and again.

    >>> tiles = divide(160, 3, np.random.default_rng(0))
    >>> len(tiles), sum(w * h for _, _, w, h in tiles) == 160 * 160
    (3, True)
    """
    tiles = [(0, 0, size, size)]
    while len(tiles) < count:
        x, y, w, h = tiles.pop(int(np.argmax([w * h for _, _, w, h in tiles])))
        upright = w > h or (w == h and rng.random() < 0.5)
        side = w if upright else h
        low = min(max(MIN_TILE, round(0.33 * side)), side // 2)
        cut = int(rng.integers(low, side - low + 1))
        tiles += [(x, y, cut, h), (x + cut, y, w - cut, h)] if upright else [(x, y, w, cut), (x, y + cut, w, h - cut)]
    return tiles


def compose(
    photos: Sequence[np.ndarray],
    boxes: np.ndarray,
    backdrop: np.ndarray,
    size: int,
    rng: np.random.Generator,
    mirror: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Put photos into random tiles of a canvas whose ground is a blurred, enlarged photo.

    Args:
        photos: Any number of ``(h, w, 3)`` uint8.
        boxes: ``(len(photos), 4)``, the object of each photo in the photo's own pixels.
        backdrop: ``(h, w, 3)`` uint8, the photo to blur.
        size: Side of the canvas.
        rng: Decides on tiles, scales and places.
        mirror: Mirror each photo with probability one half.

    Returns:
        The canvas ``(size, size, 3)`` uint8 and the boxes ``(len(photos), 4)`` float32 on it, in the photos' order.
    """
    canvas = blurred(backdrop, size)
    tiles = divide(size, max(len(photos), int(rng.integers(2, 5))), rng)
    placed = np.zeros((len(photos), 4), np.float32)
    for i, t in enumerate(rng.permutation(len(tiles))[: len(photos)]):
        photo, box = photos[i], boxes[i]
        if mirror and rng.random() < 0.5:
            width = photo.shape[1]
            photo, box = photo[:, ::-1], np.array([width - box[2], box[1], width - box[0], box[3]])
        placed[i] = _paste(canvas, tiles[t], photo, box, rng)
    return canvas, placed


def blurred(photo: np.ndarray, size: int) -> np.ndarray:
    """Return a photo enlarged to a square and blurred until no object is left to see."""
    tiny = cv2.resize(photo, (6, 6), interpolation=cv2.INTER_AREA)
    return cv2.resize(tiny, (size, size), interpolation=cv2.INTER_CUBIC)


def _paste(
    canvas: np.ndarray, tile: tuple[int, int, int, int], photo: np.ndarray, box: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw a photo into its tile, at a random scale, cut at the tile's edge; return the object's box on the canvas."""
    x, y, tile_width, tile_height = tile
    height, width = photo.shape[:2]
    side = rng.uniform(*SCALES) * min(tile_width, tile_height)
    stretch = np.exp(rng.uniform(-STRETCH, STRETCH))
    ratio = np.sqrt(width / height) * stretch
    new_width, new_height = max(2, round(side * ratio)), max(2, round(side / ratio))
    box = np.asarray(box, np.float64) * ([new_width / width, new_height / height] * 2)
    left = _place(new_width, tile_width, box[0], box[2], rng)
    top = _place(new_height, tile_height, box[1], box[3], rng)
    method = cv2.INTER_AREA if new_width < width else cv2.INTER_LINEAR
    drawn = cv2.resize(np.ascontiguousarray(photo), (new_width, new_height), interpolation=method)
    x1, x2 = max(left, 0), min(left + new_width, tile_width)
    y1, y2 = max(top, 0), min(top + new_height, tile_height)
    canvas[y + y1 : y + y2, x + x1 : x + x2] = drawn[y1 - top : y2 - top, x1 - left : x2 - left]
    seen = np.clip(box + np.array([left, top, left, top]), [x1, y1, x1, y1], [x2, y2, x2, y2])
    return (seen + np.array([x, y, x, y])).astype(np.float32)


def _place(length: int, room: int, start: float, end: float, rng: np.random.Generator) -> int:
    """Choose an offset along one axis that leaves the object ``[start, end]`` in the tile, if it can be.

    The photo either lies wholly in the tile, or fills it and is cut.
    """
    low, high = min(0, room - length), max(0, room - length)
    low, high = max(low, int(np.ceil(-start))), min(high, int(np.floor(room - end)))
    if low <= high:
        return int(rng.integers(low, high + 1))
    return int(np.clip(round((room - start - end) / 2), min(0, room - length), max(0, room - length)))
