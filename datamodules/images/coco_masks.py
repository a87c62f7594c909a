"""Masks of COCO's annotations: polygons and run lengths, checked before they are drawn.

A polygon is ``[x1, y1, x2, y2, ...]`` in pixels. Run lengths count pixels down the columns, background first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

FEWEST = 6  # numbers of a polygon
FARTHEST = 4  # times the photo's longer side: a polygon beyond is an error, not an object that is cut off


class CocoMask(NamedTuple):
    """A mask that can be drawn: polygons, or run lengths of the whole photo; the other is None."""

    polygons: list[np.ndarray] | None
    counts: np.ndarray | None

    @property
    def area(self) -> float:
        """Pixels of the mask; polygons that overlap count twice."""
        if self.counts is not None:
            return float(self.counts[1::2].sum())
        return sum(map(_polygon_area, self.polygons))


def read_mask_entry(stated: Any, size: tuple[int, int]) -> CocoMask | str:
    """Check the ``segmentation`` of an annotation.

    Args:
        stated: What stands there: polygons, one flat polygon, or run lengths as list or as COCO's text.
        size: (width, height) of the photo.

    Returns:
        The mask, or the reason why it cannot be drawn.
    """
    if isinstance(stated, list):
        parts = read_polygons(stated)
        if not parts:
            return "no polygon of three points"
        if max(float(np.abs(part).max()) for part in parts) > FARTHEST * max(size):
            return "a polygon far outside the photo"
        return CocoMask(parts, None)
    if not isinstance(stated, dict) or not isinstance(stated.get("size"), list):
        return "no segmentation"
    if stated["size"] != [size[1], size[0]]:
        return f"run lengths of another size: {str(stated['size'])[:40]} of {[size[1], size[0]]}"
    counts = read_counts(stated.get("counts"))
    if counts is None or counts.sum() != size[0] * size[1]:
        return "run lengths that do not fill the photo"
    return CocoMask(None, counts)


def read_polygons(stated: Sequence[Any]) -> list[np.ndarray]:
    """Return the polygons that have three points; a flat list is one polygon.

    >>> [part.tolist() for part in read_polygons([[0, 0, 1, 1], [0, 0, 4, 0, 4, 2]])]
    [[0.0, 0.0, 4.0, 0.0, 4.0, 2.0]]
    """
    nested = [part for part in stated if isinstance(part, list)]
    parts = []
    for part in nested if nested else [stated]:
        try:
            numbers = np.asarray(part, np.float64)
        except (TypeError, ValueError, OverflowError):
            continue
        if numbers.ndim == 1 and len(numbers) >= FEWEST and len(numbers) % 2 == 0 and np.isfinite(numbers).all():
            parts.append(numbers)
    return parts


def read_counts(stated: Any) -> np.ndarray | None:
    """Return run lengths, from a list or from COCO's text; None: they are none.

    >>> read_counts("52203").tolist()  # from the fourth on, differences to the last but one
    [5, 2, 2, 2, 5]
    """
    if isinstance(stated, str):
        stated = _decoded_counts(stated)
    if not isinstance(stated, list) or not all(type(count) is int and 0 <= count < 2**32 for count in stated):
        return None
    return np.array(stated, np.int64)


def draw(mask: CocoMask, size: tuple[int, int]) -> np.ndarray:
    """Draw a mask as ``(H, W)`` bool, for a photo of (width, height)."""
    from pycocotools import mask as rle

    width, height = size
    if mask.counts is not None:
        coded = rle.frPyObjects({"counts": mask.counts.tolist(), "size": [height, width]}, height, width)
    else:
        coded = rle.merge(rle.frPyObjects([part.tolist() for part in mask.polygons], height, width))
    return rle.decode(coded).astype(bool)


def bounding_box(stated: Any) -> tuple[float, ...] | None:
    """Return the box ``(x1, y1, x2, y2)`` around polygons; None: there is none."""
    parts = read_polygons(stated) if isinstance(stated, list) else []
    if not parts:
        return None
    points = np.concatenate(parts).reshape(-1, 2)
    return (*points.min(0).tolist(), *points.max(0).tolist())


def _polygon_area(polygon: np.ndarray) -> float:
    x, y = polygon.reshape(-1, 2).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _decoded_counts(text: str) -> list[int] | None:
    """Decode COCO's text: five bits a character and a bit that more follow; from the fourth on, differences."""
    counts: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= (1 << shift) if code & 16 else 0
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts if shift == 0 else None
