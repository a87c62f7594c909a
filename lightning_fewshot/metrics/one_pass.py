"""One-pass evaluation of trackers (Wu, Lim, Yang 2015, "Object tracking benchmark"): success and precision.

The tracker starts once, from the truth of frame 0, and is never put back. Conventions, because they move the third
decimal: boxes have no "+1"; success is the share of frames with IoU strictly above each of 21 thresholds from 0 to 1,
and its AUC the mean of the 21; precision is the share of frames whose centre is at most 0, 1, ..., 50 pixels off,
read at 20; normalised precision divides the error by the size of the truth, at 51 thresholds from 0 to 0.5, and is
the mean of the 51 (Mueller et al. 2018, "TrackingNet", section 4.2). Frame 0 counts, with the truth as the box. A
frame where the truth is NaN (the object is absent) does not count; one whose truth has no size (Board of OTB has such)
counts, with overlap 0; a frame without a box, because the tracker died or returned NaN, is a miss. Every score is the
mean over sequences, but GOT-10k's (Huang et al. 2019): AO, the mean IoU, and SR, the share of IoUs above 0.5 and above
0.75, are over the frames of all sequences without their first. Boxes are not cut at the border of the frame, which the
got10k toolkit does.

A sequence that was tracked with several seeds counts once, with the mean of its scores; ``<score>_seed_std`` is the
standard deviation of the whole set's score over seeds.

Shapes: T frames, S sequences, R seeds.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.estimate import Estimate, bootstrap_interval, bootstrap_weights, mean_interval
from lightning_fewshot.metrics.gathering import gather_to_cpu

SUCCESS_THRESHOLDS = torch.from_numpy(np.linspace(0, 1, 21))  # torch's differ in the last bit
PRECISION_THRESHOLDS = torch.arange(51, dtype=torch.float64)  # pixels
NORMALISED_THRESHOLDS = torch.from_numpy(np.linspace(0, 0.5, 51))
PRECISION_AT = 20  # pixels, and the place in PRECISION_THRESHOLDS
HALF = 10  # place of 0.5 in SUCCESS_THRESHOLDS
THRESHOLDS = (SUCCESS_THRESHOLDS, PRECISION_THRESHOLDS, NORMALISED_THRESHOLDS)
COUNTS = ("frames", "frames_without_box", "after_first", "iou", "above_50", "above_75")  # sums over a sequence


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

    Where there are fewer truths than boxes the first boxes count; where there are fewer boxes, the others are misses.

    Args:
        boxes: ``(T, 4)``.
        target: ``(T', 4)``, NaN where the object is absent.

    Raises:
        ValueError: No frame has a truth.

    >>> target = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0]])
    >>> one_pass_curves(target[:1].expand(2, 4), target).scores["precision_20"]
    1.0
    """
    boxes, target = _common_frames(boxes, target)
    overlaps = paired_iou(boxes, target).nan_to_num(0.0)  # a tracker's nan is a miss
    errors, normalised = (centre_errors(boxes, target, n).nan_to_num(torch.inf) for n in (False, True))
    return Curves(
        (overlaps[:, None] > SUCCESS_THRESHOLDS).double().mean(0),
        (errors[:, None] <= PRECISION_THRESHOLDS).double().mean(0),
        (normalised[:, None] <= NORMALISED_THRESHOLDS).double().mean(0),
    )


def frame_counts(boxes: Tensor, target: Tensor) -> Tensor:
    """Return ``COUNTS`` of one sequence, ``(6,)``: frames with a truth, those of them without a box; after frame 0, the
    frames, the sum of their IoUs, and how many are above 0.5 and above 0.75.

    >>> target = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).expand(4, 4)
    >>> frame_counts(target[:3], target).tolist()
    [4.0, 1.0, 3.0, 2.0, 2.0, 2.0]
    """
    first = bool(target[0].isfinite().all())
    boxes, target = _common_frames(boxes, target)
    without = (~boxes.isfinite().all(1)).sum()
    overlaps = paired_iou(boxes, target).nan_to_num(0.0)[int(first) :]
    values = (len(boxes), without, len(overlaps), overlaps.sum(), (overlaps > 0.5).sum(), (overlaps > 0.75).sum())
    return torch.tensor([float(v) for v in values], dtype=torch.float64)


def pooled_scores(counts: Tensor) -> dict[str, Estimate]:
    """Return ``ao``, ``sr_50``, ``sr_75`` over the frames of all sequences, and how many frames counted.

    Args:
        counts: ``(S, 6)``, a row of :func:`frame_counts` for each sequence.
    """
    weights = bootstrap_weights(len(counts), torch.Generator().manual_seed(0))
    sums = weights @ counts[:, 2:].double()
    scores = {n: sums[:, i] / sums[:, 0] for i, n in enumerate(("ao", "sr_50", "sr_75"), 1)}
    totals = {name: float(counts[:, i].sum()) for i, name in enumerate(COUNTS[:2])}
    return {
        **{name: bootstrap_interval(values, len(counts)) for name, values in scores.items()},
        **{name: Estimate(total, math.nan, math.nan, len(counts)) for name, total in totals.items()},
    }


def _common_frames(boxes: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return boxes and truth of the frames with a truth: the truth in frame 0, NaN where there is no box."""
    target = target.double().cpu()
    padded = torch.full_like(target, torch.nan)
    padded[: len(boxes)] = boxes[: len(target)].double().cpu()
    padded[:1] = target[:1]  # the first-frame rule
    present = target.isfinite().all(1)
    if not bool(present.any()):
        raise ValueError(f"no frame has a truth: the object is absent in all of {len(target)} frames")
    return padded[present], target[present]


class OnePass(Metric):
    """Collect the curves of all sequences; ``compute`` gives ``{name: Estimate}``, ``n`` counts sequences.

    Names: ``success_auc``, ``precision_20``, ``norm_precision_auc``, ``success_50`` (IoU above 0.5), the speed ``fps``
    and ``fps_with_reading`` (frames per second as a mean over sequences), ``ao``, ``sr_50``, ``sr_75``, ``frames``,
    ``frames_without_box``; and ``<score>_seed_std`` where sequences were tracked with several seeds.

    Attributes:
        curves: After ``compute`` the mean curves, ``{"success": 21 values, "precision": 51, "norm_precision": 51}``.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dist_sync_fn = self.dist_sync_fn or gather_to_cpu
        self.curves: dict[str, list[float]] = {}
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, preds: Any, episode: Episode) -> None:
        """Count one sequence.

        Args:
            preds: A ``Track``: ``boxes`` ``(T, 4)``, ``fps`` and ``fps_with_reading``.
            episode: The sequence, with its truth in ``query.boxes[0]``; ``class_ids`` tells which, where it is tracked
                more than once.
        """
        truth = episode.query.boxes[0]
        curves, counts = one_pass_curves(preds.boxes, truth), frame_counts(preds.boxes, truth)
        sequence = episode.class_ids[0] if episode.class_ids else episode.index
        ends = torch.tensor([preds.fps, preds.fps_with_reading, sequence, episode.index], dtype=torch.float64)
        self.rows.append(torch.cat((*curves, counts, ends)).float())  # flat: what an empty process has too

    def compute(self) -> dict[str, Estimate]:
        """Return the means over sequences with their intervals."""
        flat = self.rows if isinstance(self.rows, Tensor) else torch.cat(self.rows or [torch.empty(0)])
        rows = flat.cpu().double().view(-1, sum(map(len, THRESHOLDS)) + len(COUNTS) + 4)
        rows = rows[rows[:, -1].argsort()]  # the order of processes is no matter
        self.curves = _mean_curves(rows)
        columns, counts, sequences = _columns(rows), rows[:, -4 - len(COUNTS) : -4], rows[:, -2]
        estimates = {name: mean_interval(_mean_of_each(c, sequences), _limits(name)) for name, c in columns.items()}
        if len(rows):
            estimates |= pooled_scores(_mean_of_each(counts, sequences))
        return estimates | _spread({name: columns[name] for name in SPREAD}, sequences)


SPREAD = ("success_auc", "precision_20", "norm_precision_auc", "success_50")


def _columns(rows: Tensor) -> dict[str, Tensor]:
    sizes = [*map(len, THRESHOLDS), len(COUNTS), 4]
    success, precision, normalised, _, ends = rows.split(sizes, dim=1)
    return {
        "success_auc": success.mean(1),
        "precision_20": precision[:, PRECISION_AT],
        "norm_precision_auc": normalised.mean(1),
        "success_50": success[:, HALF],
        "fps": ends[:, 0],
        "fps_with_reading": ends[:, 1],
    }


def _limits(name: str) -> tuple[float, float]:
    return (0.0, math.inf) if name.startswith("fps") else (0.0, 1.0)


def _mean_curves(rows: Tensor) -> dict[str, list[float]]:
    """Return the curves of the plots, means over sequences; every sequence has as many seeds."""
    parts = rows[:, : sum(map(len, THRESHOLDS))].split([*map(len, THRESHOLDS)], dim=1)
    named = zip(Curves._fields, parts, strict=True)
    return {name: [round(v, 5) for v in part.mean(0).tolist()] for name, part in named} if len(rows) else {}


def _mean_of_each(values: Tensor, sequences: Tensor) -> Tensor:
    """Return the mean over the seeds of each sequence, in the order of their first appearance."""
    order = list(dict.fromkeys(sequences.tolist()))
    if len(order) == len(values):
        return values
    return torch.stack([values[sequences == s].mean(0) for s in order])


def _spread(columns: dict[str, Tensor], sequences: Tensor) -> dict[str, Estimate]:
    """Return the standard deviation of each score over seeds; nothing where there was one."""
    groups = [(sequences == s).nonzero()[:, 0] for s in dict.fromkeys(sequences.tolist())]
    repeats = min(map(len, groups), default=0)
    if repeats < 2:
        return {}
    seeds = torch.stack([group[:repeats] for group in groups], dim=1)  # (R, S) rows
    means = {name: column[seeds].mean(1) for name, column in columns.items()}
    return {f"{n}_seed_std": Estimate(m.std().item(), math.nan, math.nan, repeats) for n, m in means.items()}
