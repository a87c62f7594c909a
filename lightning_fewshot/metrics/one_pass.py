"""One-pass evaluation of trackers (Wu, Lim, Yang 2015, "Object tracking benchmark"): success and precision.

The tracker starts once, from the truth of frame 0, and is never put back. Conventions, because they move the third
decimal: boxes have no "+1"; success is the share of frames with IoU strictly above each of 21 thresholds from 0 to 1,
and its AUC the mean of the 21; precision is the share of frames whose centre is at most 0, 1, ..., 50 pixels off,
read at 20; normalised precision divides the error by the size of the truth, at 51 thresholds from 0 to 0.5, and is
the mean of the 51 (Mueller et al. 2018, "TrackingNet", section 4.2). Frame 0 counts, with the truth as the box. A
frame where the truth is NaN (the object is absent) does not count; one whose truth has no size (Board of OTB has such)
counts, with overlap 0. Every score is the mean over sequences.

Shapes: T frames.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.estimate import Estimate, mean_interval
from lightning_fewshot.metrics.gathering import gather_to_cpu

SUCCESS_THRESHOLDS = torch.from_numpy(np.linspace(0, 1, 21))  # torch's differ in the last bit
PRECISION_THRESHOLDS = torch.arange(51, dtype=torch.float64)  # pixels
NORMALISED_THRESHOLDS = torch.from_numpy(np.linspace(0, 0.5, 51))
PRECISION_AT = 20  # pixels, and the place in PRECISION_THRESHOLDS
HALF = 10  # place of 0.5 in SUCCESS_THRESHOLDS
THRESHOLDS = (SUCCESS_THRESHOLDS, PRECISION_THRESHOLDS, NORMALISED_THRESHOLDS)


class Curves(NamedTuple):
    """The curves of one sequence: ``(21,)`` success, ``(51,)`` precision, ``(51,)`` normalised precision, in [0, 1]."""

    success: Tensor
    precision: Tensor
    norm_precision: Tensor

    @property
    def scores(self) -> dict[str, float]:
        """The three numbers of the curves."""
        return {
            "success_auc": self.success.mean().item(),
            "precision_20": self.precision[PRECISION_AT].item(),
            "norm_precision_auc": self.norm_precision.mean().item(),
        }


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each pair, ``(T, 4)`` and ``(T, 4)`` to ``(T,)``; nan where a box is nan.

    >>> others = torch.tensor([[0.0, 0.0, 1.0, 2.0], [2.0, 0.0, 4.0, 2.0]])
    >>> paired_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]).expand(2, 4), others).tolist()
    [0.5, 0.0]
    """
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    overlap = (high - low).clamp(min=0).prod(1)
    union = sum((b[:, 2:] - b[:, :2]).clamp(min=0).prod(1) for b in (boxes, others)) - overlap
    return overlap / (union + torch.finfo(torch.float64).eps)


def centre_errors(boxes: Tensor, target: Tensor, normalised: bool = False) -> Tensor:
    """Distance of the centres in pixels, ``(T,)``; or in sizes of the truth, each axis by its own.

    >>> boxes, target = torch.tensor([[3.0, 0.0, 5.0, 2.0]]), torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    >>> centre_errors(boxes, target).tolist(), centre_errors(boxes, target, normalised=True).tolist()
    ([3.0], [1.5])
    """
    offset = (boxes[:, :2] + boxes[:, 2:] - target[:, :2] - target[:, 2:]) / 2
    return (offset / (target[:, 2:] - target[:, :2]) if normalised else offset).norm(dim=1)


def one_pass_curves(boxes: Tensor, target: Tensor) -> Curves:
    """Compare a tracker's boxes with the truth.

    Where there are fewer truths than boxes, or the reverse, the first of both count.

    Args:
        boxes: ``(T, 4)``.
        target: ``(T', 4)``, NaN where the object is absent.

    Raises:
        ValueError: No frame has both.

    >>> target = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0]])
    >>> one_pass_curves(target[:1].expand(2, 4), target).scores["precision_20"]
    1.0
    """
    count = min(len(boxes), len(target))
    boxes, target = boxes[:count].double().cpu(), target[:count].double().cpu()
    boxes = torch.cat((target[:1], boxes[1:]))  # the first-frame rule
    present = target.isfinite().all(1)
    if not bool(present.any()):
        raise ValueError(f"no frame has a truth: {count} frames in common, the object is absent in all of them")
    boxes, target = boxes[present], target[present]
    overlaps = paired_iou(boxes, target).nan_to_num(0.0)  # a tracker's nan is a miss
    errors, normalised = (centre_errors(boxes, target, n).nan_to_num(torch.inf) for n in (False, True))
    return Curves(
        (overlaps[:, None] > SUCCESS_THRESHOLDS).double().mean(0),
        (errors[:, None] <= PRECISION_THRESHOLDS).double().mean(0),
        (normalised[:, None] <= NORMALISED_THRESHOLDS).double().mean(0),
    )


class OnePass(Metric):
    """Collect the curves of all sequences; ``compute`` gives ``{name: Estimate}``, ``n`` counts sequences.

    Names: ``success_auc``, ``precision_20``, ``norm_precision_auc``, ``success_50`` (IoU above 0.5) and the speed,
    ``fps`` and ``fps_with_reading``, frames per second as a mean over sequences.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dist_sync_fn = self.dist_sync_fn or gather_to_cpu
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, preds: Any, episode: Episode) -> None:
        """Count one sequence.

        Args:
            preds: A ``Track``: ``boxes`` ``(T, 4)``, ``fps`` and ``fps_with_reading``.
            episode: The sequence, with its truth in ``query.boxes[0]``.
        """
        curves = one_pass_curves(preds.boxes, episode.query.boxes[0])
        speeds = torch.tensor([preds.fps, preds.fps_with_reading, episode.index], dtype=torch.float64)
        self.rows.append(torch.cat((*curves, speeds)).float())  # flat: what an empty process has too

    def compute(self) -> dict[str, Estimate]:
        """Return the means over sequences with their intervals."""
        flat = self.rows if isinstance(self.rows, Tensor) else torch.cat(self.rows or [torch.empty(0)])
        rows = flat.cpu().double().view(-1, sum(map(len, THRESHOLDS)) + 3)
        rows = rows[rows[:, -1].argsort()]  # the order of processes is no matter
        success, precision, normalised, speeds = rows.split([*map(len, THRESHOLDS), 3], dim=1)
        values = {
            "success_auc": success.mean(1),
            "precision_20": precision[:, PRECISION_AT],
            "norm_precision_auc": normalised.mean(1),
            "success_50": success[:, HALF],
            "fps": speeds[:, 0],
            "fps_with_reading": speeds[:, 1],
        }
        return {name: mean_interval(column) for name, column in values.items()}
