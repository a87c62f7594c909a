"""A number with its 95 % interval, from the mean of episodes or from a bootstrap over episodes.

Shapes: E episodes, R resamples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

Z95 = 1.96  # 97.5 % quantile of the normal distribution
RESAMPLES = 500


class Estimate(NamedTuple):
    """A measured value. With fewer than two episodes ``low`` and ``high`` are nan; with none ``value`` is too.

    Args:
        value: The measurement itself.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        n: Number of episodes behind it.
    """

    value: float
    low: float
    high: float
    n: int


def exact(value: float, n: int) -> Estimate:
    """Return what is known, not estimated: a count or a setting."""
    return Estimate(value, value, value, n)


def mean_interval(values: Tensor, limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Mean over episodes, plus and minus 1.96 standard errors (standard deviation with n - 1).

    Args:
        values: ``(E,)``, one number an episode.
        limits: What the interval cannot leave.

    >>> e = mean_interval(torch.tensor([0.2, 0.4, 0.6]))
    >>> [round(v, 3) for v in e]
    [0.4, 0.174, 0.626, 3]
    """
    n = values.numel()
    mean = values.double().mean().item()  # nan where n = 0
    half = Z95 * values.double().std(correction=1).item() / math.sqrt(n) if n > 1 else math.nan
    return Estimate(mean, max(mean - half, limits[0]), min(mean + half, limits[1]), n)


def bootstrap_weights(n_episodes: int, generator: torch.Generator, resamples: int = RESAMPLES) -> Tensor:
    """Draw how often each episode occurs in each resample (episodes drawn with replacement).

    Row 0 is all ones: the sample as it is. So one weighted computation gives the value and its resamples together.

    Args:
        n_episodes: E.
        generator: On the CPU. The same state gives the same weights.
        resamples: R.

    Returns:
        ``(1 + R, E)`` float64; each row sums to E.

    >>> bootstrap_weights(4, torch.Generator().manual_seed(0), resamples=200).sum(1).unique().tolist()
    [4.0]
    """
    weights = torch.zeros(1 + resamples, n_episodes, dtype=torch.float64)
    weights[0] = 1
    if n_episodes:
        draws = torch.randint(n_episodes, (resamples, n_episodes), generator=generator)
        weights[1:].scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))
    return weights


def bootstrap_interval(values: Tensor, n_episodes: int, limits: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """Value plus and minus 1.96 bootstrap standard errors (Efron and Tibshirani 1993, section 13.3).

    Not the percentile interval: average precision with its envelope is higher on a resample, which repeats items, than
    on the sample, and with a dozen episodes a class this shift is larger than the spread (measured: value 0.254,
    percentiles 0.258 to 0.266). The spread is what tells two measurements under one protocol apart.

    Args:
        values: ``(1 + R,)``: the metric of the whole sample, then of each resample, as ``bootstrap_weights`` has them.
            A resample in which the metric is not defined (nan: no truth at all was drawn) is left out.
        n_episodes: E.
        limits: Range of the metric, which the interval does not leave.

    >>> estimate = bootstrap_interval(torch.tensor([0.5, 0.3, 0.4, 0.6, 0.7, float("nan")]), n_episodes=7)
    >>> [round(v, 3) for v in estimate]
    [0.5, 0.142, 0.858, 7]
    """
    value, samples = values[0].item(), values[1:][values[1:].isfinite()].double()
    if n_episodes < 2 or len(samples) < 2 or math.isnan(value):
        return Estimate(value, math.nan, math.nan, n_episodes)
    half = Z95 * samples.std(correction=1).item()
    return Estimate(value, max(limits[0], value - half), min(limits[1], value + half), n_episodes)
