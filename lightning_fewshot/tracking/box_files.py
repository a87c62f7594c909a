"""Text files of boxes as benchmarks, toolkits and people write them: one line a frame.

A line that says nothing is a frame without the object: it is kept, so that later boxes stay with their frames.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_fewshot.files import write_atomically
from lightning_fewshot.text import fields, numbered_lines

MOST_BYTES = 64 * 2**20  # of a file of boxes: a million lines
MOST_PIXELS = 1e7  # a coordinate beyond it is no pixel
COMMENTS = ("#", "%", "//")


def write_boxes(path: str | Path, boxes_xywh: Tensor) -> None:
    """Write ``(T, 4)`` boxes, whole or not at all: one line ``x,y,w,h`` a frame."""
    rows = boxes_xywh.tolist()
    write_atomically(path, "".join(",".join(f"{v:.4f}" for v in row) + "\n" for row in rows))


def read_boxes(path: str | Path, polygons: bool = False) -> Tensor:
    """Read boxes as float64 ``(T, 4)`` x, y, w, h, whatever separates the numbers: commas, blanks, tabs, semicolons.

    Eight numbers are a polygon and a line of VOT2020 that begins with "m" a mask, which become their bounding boxes.
    Words such as NaN, and a blank line between others, stand for an absent object; comment lines do not count.

    Args:
        path: The file.
        polygons: Keep polygons as they are, ``(T, 8)``; boxes of masks become polygons too.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line has another number of values, or one that is no number; names the line.
    """
    places = read_lines(path)
    rows = [read_row(line, place) for line, place in places]
    width = max((len(row) for row in rows), default=0)
    if not width:
        raise ValueError(f"{path} has no box")
    if not rows[0]:
        raise ValueError(f"{places[0][1]} is blank, but the first line is the box of the first frame")
    for row, (_, place) in zip(rows, places, strict=True):
        if row and (len(row) != width or width not in (4, 8)):
            raise ValueError(f"{place} has {len(row)} values, expected 4 (x, y, w, h) or 8 (a polygon)")
    values = torch.tensor([row or [math.nan] * width for row in rows], dtype=torch.float64)
    if polygons:
        masks = any(line.startswith("m") for line, _ in places)
        return as_polygons(values) if width == 4 and masks else values
    return polygons_to_xywh(values) if width == 8 else values


def read_lines(path: str | Path) -> list[tuple[str, str]]:
    """Return the lines of a text file, each with its place for an error; without comments and blank lines at the end.

    Byte order marks, UTF-16, and line ends of Windows and of old Macs are taken as they are meant.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text, or larger than ``MOST_BYTES``.
    """
    return [(line, f"{path}, line {number}") for number, line in numbered_lines(path, COMMENTS, MOST_BYTES)]


def polygons_to_xywh(polygons: Tensor) -> Tensor:
    """Return the bounding boxes ``(T, 4)`` of polygons ``(T, 8)``: x1, y1, ..., x4, y4.

    >>> polygons_to_xywh(torch.tensor([[5.0, 0.0, 10.0, 5.0, 5.0, 10.0, 0.0, 5.0]])).tolist()
    [[0.0, 0.0, 10.0, 10.0]]
    """
    x, y = polygons[:, 0::2], polygons[:, 1::2]
    low = torch.stack((x.amin(1), y.amin(1)), 1)
    return torch.cat((low, torch.stack((x.amax(1), y.amax(1)), 1) - low), 1)


def mask_to_xywh(numbers: list[int]) -> list[float]:
    """Return the bounding box of a mask as VOT writes it: x, y, width, height, then runs in rows, background first.

    Raises:
        ValueError: Numbers are too few, negative, or more than the mask holds.

    >>> mask_to_xywh([10, 20, 4, 2, 1, 2, 2, 1])  # of two rows .##. and .#..
    [11.0, 20.0, 2.0, 2.0]
    """
    if len(numbers) < 5 or min(numbers[2:4]) < 1 or min(numbers[4:]) < 0:
        raise ValueError("a mask is x, y, width, height and its runs")
    x, y, width, height = numbers[:4]
    ends = np.cumsum(np.array(numbers[4:], dtype=np.float64))
    starts, ends = ends[:-1:2], ends[1::2]
    if (ends[-1:] > width * height).any():
        raise ValueError(f"the runs cover {ends[-1]:.0f} pixels, but the mask has {width} x {height}")
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(ends):
        return [math.nan] * 4
    wraps = starts // width != (ends - 1) // width
    left = 0.0 if wraps.any() else (starts % width).min()
    right = float(width) if wraps.any() else ((ends - 1) % width).max() + 1
    top, bottom = starts[0] // width, (ends[-1] - 1) // width + 1
    return [float(v) for v in (x + left, y + top, right - left, bottom - top)]


def read_row(line: str, place: str) -> list[float]:
    """Return the numbers of one line of boxes; of a mask, those of its bounding box; none of a blank line.

    Raises:
        ValueError: Something is no number, no pixel or no mask.
    """
    if ";" in line and "," in line:
        raise ValueError(f"{place} has both ; and , but only one of them can separate numbers: {line[:60]!r}")
    is_mask = line.startswith("m")
    words = fields(line.removeprefix("m"))
    try:
        if is_mask:
            return mask_to_xywh([int(word) for word in words])
        values = [float(word) for word in words]
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{place} holds something that is no number or no mask: {error}") from error
    if any(abs(v) > MOST_PIXELS for v in values):
        raise ValueError(f"{place} holds a number that is no pixel: {line[:60]!r}")
    return values


def as_polygons(boxes_xywh: Tensor) -> Tensor:
    """Return boxes ``(T, 4)`` x, y, w, h as polygons ``(T, 8)``, clockwise from the upper left corner."""
    x, y, width, height = boxes_xywh.unbind(1)
    return torch.stack((x, y, x + width, y, x + width, y + height, x, y + height), 1)
