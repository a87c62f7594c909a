"""The threshold that validation chooses, against trying each."""

import pytest
import torch

from lightning_fewshot.episodes import Episode, Examples, Segmentation
from lightning_fewshot.metrics.segmentation import SegmentationMetrics
from lightning_fewshot.metrics.threshold_sweep import LOGITS, ThresholdSweep


def scored(n, seed=0, shift=1.7):
    """List n episodes with probabilities that are best cut near ``sigmoid(shift)``."""
    g = torch.Generator().manual_seed(seed)
    episodes = []
    for index in range(n):
        truth = (torch.rand(1, 9, 11, generator=g) < 0.4).to(torch.uint8)
        logits = truth * 2.0 - 1 + shift + torch.randn(1, 9, 11, generator=g)
        truth[torch.rand(truth.shape, generator=g) < 0.1] = 255
        query = Examples(torch.zeros(1, 3, 9, 11), torch.tensor([0]), class_masks=truth)
        episodes.append((logits.sigmoid(), Episode(None, query, ("a",), index, (index % 3,))))
    return episodes


def at(episodes, threshold):
    metric = SegmentationMetrics(resamples=20)
    for probs, episode in episodes:
        metric.update([Segmentation(probs > threshold, torch.zeros(9, 11), probs=probs)], episode)
    return metric.compute()


def test_the_threshold_is_the_best_of_all_and_the_metrics_are_those_at_it():
    episodes, sweep = scored(12), ThresholdSweep(resamples=20)
    for probs, episode in episodes:
        sweep.update([Segmentation(probs > 0.5, torch.zeros(9, 11), probs=probs)], episode)
    found = sweep.compute()
    values = [at(episodes, t)["miou"].value for t in LOGITS[180:280].sigmoid().tolist()]
    assert found["miou"].value == pytest.approx(max(values), abs=1e-12)
    chosen = at(episodes, found["threshold"].value)
    assert all(found[name] == pytest.approx(e) for name, e in chosen.items())
    assert found["miou"].value > at(episodes, 0.5)["miou"].value + 0.05
    sweep.reset()
    assert "threshold" not in sweep.compute()


def test_a_tie_goes_to_one_half():
    truth = torch.tensor([[[1, 0]]], dtype=torch.uint8)
    query = Examples(torch.zeros(1, 3, 1, 2), torch.tensor([0]), class_masks=truth)
    probs, sweep = torch.tensor([[[0.9, 0.1]]]), ThresholdSweep()
    sweep.update([Segmentation(probs > 0.5, torch.zeros(1, 2), probs=probs)], Episode(None, query, ("a",), 0, (0,)))
    assert sweep.compute()["threshold"].value == 0.5
