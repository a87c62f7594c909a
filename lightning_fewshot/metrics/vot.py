"""Supervised evaluation of VOT (Kristan et al. 2016, "A novel performance evaluation methodology").

A tracker that loses its object (overlap 0) has failed, and is started again five frames later. Accuracy is the mean
overlap of the frames that were tracked, without the ten frames from each start on ("burn-in"); robustness is
``exp(-30 F / N)`` with F failures in N frames, the chance to track 30 frames; ``failures`` is their number in all
sequences, as Learnet's table 2 has it. EAO, the expected average overlap, is the mean over lengths within stated bounds
of the mean overlap that fragments of at least that length have, a failed one counting as 0 from its failure on. As in
vot-toolkit, the curve ends with the longest fragment; where that is below the upper bound, EAO's name says it.

As in vot-toolkit 0.9, accuracy and F are means over sequences weighted by their lengths, N is the mean length, and a
sequence of which burn-in leaves nothing has accuracy 0. Given the same overlaps, all numbers are the toolkit's
(``tests/metrics/test_vot_toolkit.py``). The overlaps are not quite: ours are of exact areas, the toolkit rounds corners
to whole pixels and counts a polygon's edge as inside. Boxes of whole pixels agree; of turned rectangles with sides of
20 to 60 pixels the overlap differs by 0.010 in the mean and 0.037 at most, in both directions.

VOT repeats a tracker that draws random numbers 15 times: accuracy and failures of a sequence are means over its runs,
and EAO takes the fragments of all runs.

Shapes: T frames, F fragments, R weightings.
"""

from __future__ import annotations

import math
import warnings
from enum import IntEnum
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.estimate import Estimate, bootstrap_interval, bootstrap_weights, mean_interval
from lightning_fewshot.metrics.gathering import gather_to_cpu

SKIP = 5  # frames from a failure to the next start
BURN_IN = 10
SENSITIVITY = 30
EAO_BOUNDS = {"VOT2015": (108, 371), "VOT2016": (108, 371), "VOT2018": (100, 356)}  # of vot-toolkit's stacks


class Code(IntEnum):
    """What happened in a frame."""

    TRACKED = 0
    START = 1
    FAILURE = 2
    SKIPPED = 3


class Fragment(NamedTuple):
    """From a start to a failure, or to the end of the sequence: overlaps ``(n,)`` and whether it ended well."""

    overlaps: Tensor
    whole: bool


def polygon_iou(polygon: Tensor, box: Tensor, height: float, width: float) -> float:
    """Intersection over union of a convex polygon and a box or another one, both cut at the border of the frame.

    Args:
        polygon: ``(8,)`` x1, y1, ..., x4, y4.
        box: ``(4,)``, or ``(8,)`` a polygon.
        height: Of the frame; infinite where it is not known: nothing is cut.
        width: Of the frame.

    >>> square = torch.tensor([0.0, 0.0, 10.0, 0.0, 10.0, 10.0, 0.0, 10.0])
    >>> round(polygon_iou(square, torch.tensor([5.0, 0.0, 15.0, 10.0]), 100, 100), 4)
    0.3333
    >>> round(polygon_iou(square, torch.tensor([5.0, 0.0, 15.0, 10.0]), 100, 10), 4)
    0.5
    """
    corners, truth = _corners(box), polygon.reshape(4, 2).float().numpy()
    if not math.isfinite(height):
        areas, inside = [cv2.contourArea(shape) for shape in (corners, truth)], corners
        overlap = _common(inside, truth)[0]
        return overlap / (sum(areas) - overlap) if sum(areas) > overlap else 0.0
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    areas = [_common(shape, frame)[0] for shape in (corners, truth)]
    inside = _common(corners, frame)[1]
    overlap = _common(inside, truth)[0] if inside is not None else 0.0
    union = sum(areas) - overlap
    return overlap / union if union > 0 else 0.0


def _corners(box: Tensor) -> np.ndarray:
    if len(box) == 8:
        return box.reshape(4, 2).float().numpy()
    x1, y1, x2, y2 = (float(v) for v in box)
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)


def _common(one: np.ndarray, other: np.ndarray) -> tuple[float, np.ndarray | None]:
    area, shape = cv2.intersectConvexConvex(one, other)
    return float(area), shape


def accuracy(overlaps: Tensor, codes: Tensor, burn_in: int = BURN_IN) -> float:
    """Mean overlap of the tracked frames of one sequence; 0 where burn-in leaves none.

    Args:
        overlaps: ``(T,)``.
        codes: ``(T,)``, :class:`Code`.
        burn_in: Frames left out from each start on, the start included.

    >>> accuracy(torch.tensor([1.0, 0.8, 0.6, 0.0]), torch.tensor([1, 0, 0, 2]), burn_in=2)
    0.6000000238418579
    """
    kept = after_burn_in(codes, burn_in)
    return overlaps[kept].mean().item() if bool(kept.any()) else 0.0


def after_burn_in(codes: Tensor, burn_in: int = BURN_IN) -> Tensor:
    """Return which frames ``(T,)`` accuracy counts.

    >>> after_burn_in(torch.tensor([1, 0, 0, 2]), burn_in=2).tolist()
    [False, False, True, False]
    """
    starts = (codes == Code.START).nonzero()[:, 0]
    since = torch.arange(len(codes)) - starts[torch.searchsorted(starts, torch.arange(len(codes)), right=True) - 1]
    return (codes == Code.TRACKED) & (since >= burn_in)


def fragments(overlaps: Tensor, codes: Tensor) -> list[Fragment]:
    """Cut a sequence at its failures."""
    starts = (codes == Code.START).nonzero()[:, 0].tolist()
    failures = (codes == Code.FAILURE).nonzero()[:, 0].tolist()
    ends = [*failures, len(codes)]
    return [Fragment(overlaps[a:b], b == len(codes)) for a, b in zip(starts, ends, strict=False)]


def expected_overlap(parts: list[Fragment], weights: Tensor) -> Tensor:
    """Return the expected average overlap at each length, under R weightings of the fragments at once.

    Args:
        parts: F fragments. One that failed has overlap 0 from then on, at any length; one that came to the end of its
            sequence says nothing of greater lengths.
        weights: ``(R, F)``.

    Returns:
        ``(R, n)``, n the greatest length; entry j is the mean over frames 1 to j (entry 0: frame 0 alone).

    >>> parts = [Fragment(torch.tensor([1.0, 0.5, 0.5]), True), Fragment(torch.tensor([1.0, 0.3]), False)]
    >>> expected_overlap(parts, torch.ones(1, 2).double()).round(decimals=3).tolist()
    [[1.0, 0.4, 0.325]]
    """
    length = max(len(part.overlaps) for part in parts)
    values, known = torch.zeros(len(parts), length).double(), torch.ones(len(parts), length).double()
    for row, part in enumerate(parts):
        values[row, : len(part.overlaps)] = part.overlaps.double()
        if part.whole:
            known[row, len(part.overlaps) :] = 0
    means = values.clone()
    means[:, 1:] = values[:, 1:].cumsum(1) / torch.arange(1, length)
    return (weights @ (means * known)) / (weights @ known)


class Supervised(Metric):
    """Collect supervised runs; ``compute`` gives ``{name: Estimate}``.

    Names: ``accuracy``, ``failures``, ``robustness``, ``eao_108_371`` with the lengths in its name over which it is a
    mean, and ``fps``. There is no EAO, and a warning, where no fragment reaches the least length.

    Args:
        bounds: Least and greatest length of the EAO; "VOT2015" (108, 371), "VOT2016" (the same), "VOT2018" (100, 356).
        burn_in: Frames after a start that accuracy leaves out.
        kwargs: For ``torchmetrics.Metric``.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    overlaps: list[Tensor]
    codes: list[Tensor]
    heads: list[Tensor]

    def __init__(self, bounds: tuple[int, int] = EAO_BOUNDS["VOT2015"], burn_in: int = BURN_IN, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bounds, self.burn_in = bounds, burn_in
        self.dist_sync_fn = self.dist_sync_fn or gather_to_cpu
        for name in ("overlaps", "codes", "heads"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, preds: Any, episode: Episode) -> None:
        """Count one sequence: ``preds.overlaps`` and ``preds.codes``, ``(T,)`` each."""
        self.overlaps.append(preds.overlaps.float().cpu())
        self.codes.append(preds.codes.float().cpu())
        sequence = episode.class_ids[0] if episode.class_ids else episode.index
        self.heads.append(torch.tensor([len(preds.codes), episode.index, preds.fps, sequence], dtype=torch.float32))

    def compute(self) -> dict[str, Estimate]:
        """Return ``{name: Estimate}``; ``n`` counts sequences. Nothing where there was no sequence."""
        overlaps, codes, heads = (_flat(getattr(self, name)) for name in ("overlaps", "codes", "heads"))
        heads = heads.view(-1, 4)
        if not len(heads):
            return {}
        lengths = heads[:, 0].long().tolist()
        runs = list(zip(overlaps.split(lengths), codes.long().split(lengths), strict=True))
        order = heads[:, 1].argsort()  # the order of processes is no matter
        runs = [runs[i] for i in order.tolist()]
        owners = heads[order, 3].unique(return_inverse=True)[1]  # a sequence may have runs with several seeds
        count = int(owners.max()) + 1
        accuracies = _means([accuracy(*run, self.burn_in) for run in runs], owners)
        failed = _means([int((c == Code.FAILURE).sum()) for _, c in runs], owners)
        frames = _means([len(c) for _, c in runs], owners)
        weights = bootstrap_weights(count, torch.Generator().manual_seed(0))
        total = weights @ frames
        rate = (weights @ (failed * frames)) / total / (total / count)
        estimates = {
            "accuracy": bootstrap_interval((weights @ (accuracies * frames)) / total, count),
            "failures": bootstrap_interval(weights @ failed, count, (0.0, math.inf)),
            "robustness": bootstrap_interval(torch.exp(-SENSITIVITY * rate), count),
        }
        curve = overlap_curve(runs, weights[:, owners])
        low, high = self.bounds[0], min(self.bounds[1], curve.shape[1] - 1)
        if low <= high:
            estimates[f"eao_{low}_{high}"] = bootstrap_interval(curve[:, low : high + 1].nanmean(1), count)
        else:
            longest = f"the longest part without a failure has {curve.shape[1]}"
            warnings.warn(f"no EAO: it begins at {low} frames after a start, {longest}", stacklevel=2)
        return {**estimates, "fps": mean_interval(heads[:, 2])}


def overlap_curve(runs: list[tuple[Tensor, Tensor]], weights: Tensor) -> Tensor:
    """Return the expected average overlap ``(R, n)`` at each length, n frames in the longest fragment.

    Args:
        runs: Overlaps and codes of each run.
        weights: ``(R, S)``, how often each run counts.
    """
    cut = [fragments(*run) for run in runs]
    owner = torch.tensor([i for i, parts in enumerate(cut) for _ in parts])
    return expected_overlap([part for parts in cut for part in parts], weights[:, owner])


def _means(values: list[float], owners: Tensor) -> Tensor:
    """Return the mean over the runs of each sequence, float64."""
    sums = torch.zeros(int(owners.max()) + 1).double().index_add(0, owners, torch.tensor(values).double())
    return sums / owners.bincount()


def _flat(state: Tensor | list[Tensor]) -> Tensor:
    return (state if isinstance(state, Tensor) else torch.cat(state or [torch.empty(0)])).cpu()
