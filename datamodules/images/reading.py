"""Clean and resize the boxes of photos, and count what had to be left out.

Boxes are ``(M, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels.
"""

from __future__ import annotations

import warnings

import cv2
import numpy as np

MIN_SIDE = 1.0  # pixels: a narrower box is empty


def clean_boxes(boxes: np.ndarray, width: float, height: float) -> tuple[np.ndarray, dict[int, str]]:
    """Clip boxes to the image and say which of them cannot be used.

    Returns:
        The clipped boxes ``(M, 4)``, and for every unusable box its row and the reason.

    >>> boxes, bad = clean_boxes(np.array([[-5, 0, 20, 10], [8, 8, 2, 2], [50, 0, 60, 9], [1, 1, 1, 5]]), 30, 30)
    >>> boxes[0].tolist(), bad
    ([0.0, 0.0, 20.0, 10.0], {1: 'inverted', 2: 'outside the image', 3: 'empty'})
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    sides, kept_sides = boxes[:, 2:] - boxes[:, :2], clipped[:, 2:] - clipped[:, :2]
    reasons = {
        "not finite": ~np.isfinite(boxes).all(1),
        "inverted": (sides < 0).any(1),
        "empty": (sides < MIN_SIDE).any(1),
        "outside the image": ~(kept_sides >= MIN_SIDE).all(1),
    }
    bad: dict[int, str] = {}
    for reason, rows in reasons.items():
        bad |= {int(row): reason for row in np.flatnonzero(rows) if int(row) not in bad}
    return clipped, dict(sorted(bad.items()))


class SkippedItems:
    """Counts and lists what a reader left out, for one warning at the end instead of thousands."""

    def __init__(self) -> None:
        self.items: list[str] = []

    def add(self, name: str, reason: str) -> None:
        """Note one item and why it is left out."""
        self.items.append(f"{name} ({reason})")

    def __len__(self) -> int:
        return len(self.items)

    def warn(self, what: str, shown: int = 5) -> None:
        """Warn once with the count and the first names; silent where nothing was skipped."""
        if self.items:
            more = "" if len(self.items) <= shown else f" and {len(self.items) - shown} more"
            warnings.warn(f"skipped {len(self.items)} {what}: {', '.join(self.items[:shown])}{more}", stacklevel=3)


def resize(
    image: np.ndarray, boxes: np.ndarray, short_side: int | None = None, max_side: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scale the shorter side to ``short_side``, but the longer one to no more than ``max_side``; boxes follow.

    Args:
        image: ``(H, W, 3)`` uint8.
        boxes: ``(M, 4)``.
        short_side: Pixels; None keeps the size unless it exceeds ``max_side``.
        max_side: Pixels; None sets no limit.

    >>> image, boxes = resize(np.zeros((100, 200, 3), np.uint8), np.array([[20.0, 10.0, 40.0, 30.0]]), 50, 80)
    >>> image.shape, boxes.tolist()
    ((40, 80, 3), [[8.0, 4.0, 16.0, 12.0]])
    """
    height, width = image.shape[:2]
    scale = 1.0 if short_side is None else short_side / min(height, width)
    if max_side is not None:
        scale = min(scale, max_side / max(height, width))
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    boxes = np.asarray(boxes, np.float32) * np.array([new[0] / width, new[1] / height] * 2, np.float32)
    if new == (width, height):
        return image, boxes
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, new, interpolation=method), boxes


def flip(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror an image left to right; boxes follow.

    >>> flip(np.zeros((4, 10, 3), np.uint8), np.array([[1.0, 0.0, 3.0, 2.0]]))[1].tolist()
    [[7.0, 0.0, 9.0, 2.0]]
    """
    width = image.shape[1]
    boxes = np.asarray(boxes, np.float32)
    mirrored = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    return np.ascontiguousarray(image[:, ::-1]), mirrored
