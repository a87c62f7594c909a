"""Precision and recall of one ranked list, under many weightings of the episodes at once.

Precision can only rise at a true positive, so the curve is needed at the true positives alone, and the false positives
between two of them need only be counted for each episode. With 2.5 million detections, 50 thousand of them true, and
500 resamples this is one product of matrices instead of 10^9 steps of a cumulative sum.

Shapes: N ranked items, P true positives among them, E episodes, R weightings, 101 recall levels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CHUNK = 4_000_000  # cells of the table (true positives x episodes) in memory together: 32 MB
EPS = float(np.spacing(1))  # 0 / 0 is precision 0, as COCO has it
RECALL_LEVELS = torch.from_numpy(np.linspace(0.0, 1.0, 101))  # COCO's recThrs, to the last bit


class Curve(NamedTuple):
    """Precision and recall at each true positive.

    Args:
        precision: ``(R, P)``, raised to the maximum at equal or higher recall (the envelope).
        recall: ``(R, P)``, nan where the weighting has no object.
    """

    precision: Tensor
    recall: Tensor


def precision_recall(is_true: Tensor, episodes: Tensor, n_objects: Tensor, weights: Tensor) -> Curve:
    """Follow a ranked list.

    Args:
        is_true: ``(N,)`` bool, best first: a true positive, else a false one.
        episodes: ``(N,)`` in [0, E).
        n_objects: ``(R,)`` weighted number of objects to find.
        weights: ``(R, E)`` float64, how often each episode counts.

    >>> is_true, episodes = torch.tensor([True, False, True]), torch.tensor([0, 0, 0])
    >>> curve = precision_recall(is_true, episodes, torch.tensor([4.0]), torch.ones(1, 1).double())
    >>> curve.precision.round(decimals=3).tolist(), curve.recall.tolist()
    ([[1.0, 0.667]], [[0.25, 0.5]])
    """
    true = weights[:, episodes[is_true]].cumsum(1)
    false = _false_before_true(is_true, episodes, weights)
    precision = true / (true + false).clamp(min=EPS)
    envelope = precision.flip(1).cummax(1).values.flip(1) if precision.shape[1] else precision
    return Curve(envelope, true / n_objects[:, None])


def interpolated_area(curve: Curve, n_objects: Tensor) -> Tensor:
    """Average precision by COCO's rule: the mean of the envelope at 101 recall levels.

    Args:
        curve: From ``precision_recall``.
        n_objects: ``(R,)``; where it is 0 the result is nan.

    Returns:
        ``(R,)`` in [0, 1].
    """
    levels = RECALL_LEVELS.expand(len(curve.recall), -1).contiguous()
    at = torch.searchsorted(curve.recall.nan_to_num(0.0).contiguous(), levels)  # first recall >= level
    padded = torch.cat((curve.precision, curve.precision.new_zeros(len(curve.precision), 1)), dim=1)
    return padded.gather(1, at).mean(1).masked_fill(n_objects == 0, torch.nan)


def area(curve: Curve, n_objects: Tensor) -> Tensor:
    """Average precision as the exact area under the envelope (PASCAL VOC from 2010 on).

    Args:
        curve: From ``precision_recall``.
        n_objects: ``(R,)``; where it is 0 the result is nan.

    Returns:
        ``(R,)`` in [0, 1].
    """
    steps = curve.recall.diff(dim=1, prepend=torch.zeros(len(curve.recall), 1, dtype=curve.recall.dtype))
    return (steps * curve.precision).nan_to_num(0.0).sum(1).masked_fill(n_objects == 0, torch.nan)


def count(episodes: Tensor, weights: Tensor) -> Tensor:
    """Count items under each weighting: ``(N,)`` episodes and ``(R, E)`` weights give ``(R,)``."""
    return weights @ torch.bincount(episodes, minlength=weights.shape[1]).to(weights.dtype)


def _false_before_true(is_true: Tensor, episodes: Tensor, weights: Tensor) -> Tensor:
    """Count the weighted false positives ranked above each true positive, ``(R, P)``."""
    present, column = episodes.unique(return_inverse=True)  # a class occurs in few of the episodes
    weights = weights[:, present]
    n_true, width = int(is_true.sum()), max(1, len(present))
    row = is_true.cumsum(0)[~is_true]  # true positives above each false one
    cell = row * width + column[~is_true]
    cell = cell[row < n_true]  # false positives below the last true one change nothing
    counts = []
    for first in range(0, n_true, max(1, CHUNK // width)):
        last = min(n_true, first + max(1, CHUNK // width))
        bounds = torch.searchsorted(row, torch.tensor([first, last]))  # row rises
        table = torch.bincount(cell[bounds[0] : bounds[1]] - first * width, minlength=(last - first) * width)
        counts.append(weights @ table.reshape(-1, width).to(weights.dtype).T)
    return torch.cat(counts, dim=1).cumsum(1) if counts else weights.new_zeros(len(weights), 0)
