"""One raw result file: boxes or polygons, and VOT's codes where a tracker was started again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fewshot.boxes import xywh_to_xyxy
from lightning_fewshot.metrics.vot import Code, polygon_iou
from lightning_fewshot.tracking.box_files import polygons_to_xywh, read_lines, read_row

CODES = {"0": Code.SKIPPED, "1": Code.START, "2": Code.FAILURE}


class Trajectory(NamedTuple):
    """What a tracker wrote about a sequence.

    Args:
        regions: One ``(4,)`` x, y, w, h or ``(8,)`` polygon a frame; NaN where there is none.
        codes: ``(T,)`` int64, :class:`lightning_fewshot.metrics.vot.Code`.
    """

    regions: list[Tensor]
    codes: Tensor

    @property
    def supervised(self) -> bool:
        """Whether the tracker was started again, or could have been."""
        return bool((self.codes != Code.TRACKED).any())

    def boxes_xywh(self) -> Tensor:
        """Return ``(T, 4)``; polygons become their bounding boxes."""
        return torch.stack([r if len(r) == 4 else polygons_to_xywh(r[None])[0] for r in self.regions])


class SupervisedResult(NamedTuple):
    """A supervised run read from a file: ``(T,)`` overlaps and codes; its speed is not known."""

    overlaps: Tensor
    codes: Tensor
    fps: float = math.nan


def read_trajectory(path: Path) -> Trajectory:
    """Read a result file of any toolkit.

    Raises:
        ValueError: A line is neither a code (0, 1, 2), nor 4 or 8 numbers, nor a mask; names the line.
    """
    regions, codes = [], []
    for line, place in read_lines(path):
        codes.append(int(CODES.get(line, Code.TRACKED)))
        row = [] if line in CODES else read_row(line, place)
        if len(row) not in (0, 4, 8):
            raise ValueError(f"{place} has {len(row)} values, expected 4 (x, y, w, h), 8 (a polygon) or a code 0, 1, 2")
        regions.append(torch.tensor(row or [math.nan] * 4, dtype=torch.float64))
    if not regions:
        raise ValueError(f"{path} has no box")
    return Trajectory(regions, torch.tensor(codes))


def supervised_result(trajectory: Trajectory, polygons: Tensor, size: tuple[float, float]) -> SupervisedResult:
    """Compare a supervised run with the truth.

    Args:
        trajectory: As long as the truth, or shorter: the rest counts as a failure.
        polygons: ``(T, 8)``, NaN where nothing is known.
        size: Height and width of the frames; infinite where they are not known.
    """
    count = len(polygons)
    codes = torch.full((count,), int(Code.SKIPPED))
    codes[: len(trajectory.codes)] = trajectory.codes[:count]
    if len(trajectory.codes) < count:  # the tracker died
        codes[len(trajectory.codes)] = Code.FAILURE
    overlaps = torch.zeros(count)
    overlaps[codes == Code.START] = 1.0
    for t in (codes == Code.TRACKED).nonzero()[:, 0].tolist():
        region = trajectory.regions[t]
        if not bool(polygons[t].isfinite().all()):
            codes[t] = Code.SKIPPED
        elif bool(region.isfinite().all()):
            overlaps[t] = polygon_iou(polygons[t], region if len(region) == 8 else xywh_to_xyxy(region[None])[0], *size)
    return SupervisedResult(overlaps, codes)
