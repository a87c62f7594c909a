"""Precision and recall of one ranked list, under many weightings of the episodes at once.

Precision can only rise at a true positive, so the curve is needed at the true positives alone, and the false positives
between two of them need only be summed up. With 1.5 million detections, 60 thousand of them true, and 500 resamples the
curves are 25 times shorter than the list.

Shapes: N ranked items, P true positives among them, E episodes, R weightings, 101 recall levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

CHUNK = 2_000_000  # points of curves (weightings x true positives) in memory together: 16 MB for each tensor
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


def average_precision(
    is_true: Tensor,
    episodes: Tensor,
    n_objects: Tensor,
    weights: Tensor,
    rule: Callable[[Curve, Tensor], Tensor],
) -> Tensor:
    """Reduce a ranked list to one number under each weighting, a chunk of weightings at a time.

    Args:
        is_true: ``(N,)`` bool, best first: a true positive, else a false one.
        episodes: ``(N,)`` in [0, E).
        n_objects: ``(R,)`` weighted number of objects to find.
        weights: ``(R, E)`` float64, how often each episode counts.
        rule: ``interpolated_area`` or ``area``.

    Returns:
        ``(R,)`` in [0, 1]; nan where there is no object.

    >>> is_true, episodes = torch.tensor([True, False, True]), torch.tensor([0, 0, 0])
    >>> average_precision(is_true, episodes, torch.tensor([2.0]), torch.ones(1, 1).double(), area).round(decimals=4)
    tensor([0.8333], dtype=torch.float64)
    """
    rows = max(1, CHUNK // max(1, int(is_true.sum())))
    parts = zip(weights.split(rows), n_objects.split(rows), strict=True)
    return torch.cat([rule(precision_recall(is_true, episodes, n, w), n) for w, n in parts])


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
    envelope = np.maximum.accumulate(precision.numpy()[:, ::-1], axis=1)[:, ::-1]  # torch.cummax is 10 times slower
    return Curve(torch.from_numpy(envelope.copy()), true / n_objects[:, None])


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
    n_true = int(is_true.sum())
    if n_true == 0:
        return weights.new_zeros(len(weights), 0)
    bag = is_true.cumsum(0)[~is_true]  # true positives above each false one: rises
    first = torch.searchsorted(bag, torch.arange(n_true))
    of_bags = episodes[~is_true][bag < n_true]  # those below the last true positive change nothing
    return embedding_bag(of_bags, weights.T.contiguous(), first, mode="sum").T.contiguous().cumsum(1)
