"""Intervals against scipy, and how often they hold the truth."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from lightning_fewshot.metrics.estimate import bootstrap_interval, bootstrap_weights, mean_interval


def test_mean_interval_equals_scipy():
    values = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = stats.norm.interval(0.95, loc=values.mean().item(), scale=stats.sem(values.numpy(), ddof=1))
    estimate = mean_interval(values)
    assert estimate.value == pytest.approx(np.mean(values.numpy()))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)  # 1.96 against 1.959964
    assert estimate.n == 50


def test_too_few_values():
    assert math.isnan(mean_interval(torch.zeros(0)).value)
    one = mean_interval(torch.tensor([0.5]))
    assert one.value == 0.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_weights_are_counts_of_draws():
    weights = bootstrap_weights(30, torch.Generator().manual_seed(0), resamples=2000)
    assert weights.shape == (2001, 30)
    assert (weights[0] == 1).all()
    assert (weights.sum(1) == 30).all()
    # a multinomial count of 30 draws over 30 cells: mean 1, variance 1 - 1/30
    assert weights[1:].mean(0).numpy() == pytest.approx(np.ones(30), abs=0.12)
    assert weights[1:].var().item() == pytest.approx(1 - 1 / 30, abs=0.03)
    assert torch.equal(weights, bootstrap_weights(30, torch.Generator().manual_seed(0), resamples=2000))


def test_bootstrap_of_a_mean_covers_the_truth():
    g = torch.Generator().manual_seed(1)
    held = 0
    for _ in range(200):
        values = torch.randn(60, generator=g, dtype=torch.float64)
        means = bootstrap_weights(60, g, resamples=300) @ values / 60
        estimate = bootstrap_interval(means, 60, limits=(-math.inf, math.inf))
        held += estimate.low <= 0 <= estimate.high
    assert 0.89 <= held / 200 <= 0.99


def test_resamples_without_truth_are_left_out():
    estimate = bootstrap_interval(torch.tensor([0.5, math.nan, 0.45, 0.55, math.nan]), 9)
    half = 1.96 * np.std([0.45, 0.55], ddof=1)
    assert estimate == pytest.approx((0.5, 0.5 - half, 0.5 + half, 9), abs=1e-6)


def test_interval_stays_within_the_limits():
    estimate = bootstrap_interval(torch.tensor([0.95, 0.8, 0.99, 0.7]), 9)
    assert estimate.high == 1
    assert estimate.low < 0.95
