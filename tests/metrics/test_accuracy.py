"""Accuracy against plain counts, and the area under the ROC curve against scikit-learn."""

import pytest
import torch

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.accuracy import Accuracy, auroc, correct_predictions


def episode_of(labels, n_classes, protocol="episode"):
    images = torch.zeros(len(labels), 3, 2, 2, dtype=torch.uint8)
    return Episode(None, Examples(images, torch.tensor(labels)), tuple("abcdef"[:n_classes]), protocol=protocol)


def test_episodes_count_one_each():
    metric = Accuracy()
    metric.update(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), episode_of([0, 1], 2))
    metric.update(torch.tensor([[0.1, 0.9]] * 4), episode_of([1, 1, 1, 1], 2))
    accuracy = metric.compute()["accuracy"]
    assert accuracy.value == pytest.approx(0.75)
    assert accuracy.n == 2
    assert metric.compute()["error"].value == pytest.approx(0.25)
    half = 1.96 * torch.tensor([0.5, 1.0], dtype=torch.float64).std().item() / 2**0.5
    assert accuracy.low == pytest.approx(0.75 - half)


def test_batches_of_a_closed_set_count_by_image():
    metric = Accuracy()
    metric.update(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), episode_of([0, 1], 2, "batch"))
    metric.update(torch.tensor([[0.1, 0.9]] * 4), episode_of([1, 1, 1, 1], 2, "batch"))
    accuracy = metric.compute()["accuracy"]
    assert (accuracy.value, accuracy.n) == (pytest.approx(5 / 6), 6)


def test_queries_of_no_class_count_for_rejection_alone():
    metric = Accuracy()
    metric.update(torch.tensor([[0.9, 0.1], [0.2, 0.7], [0.4, 0.5]]), episode_of([0, 0, 2], 2))
    estimates = metric.compute()
    assert estimates["accuracy"].value == 0.5
    assert estimates["open_set_auroc"].value == 1.0


def test_scores_that_are_no_numbers_are_wrong():
    assert correct_predictions(torch.tensor([[float("nan"), 0.0]]), torch.tensor([1])).tolist() == [0.0]


def test_nothing_counted():
    estimates = Accuracy().compute()
    assert estimates["accuracy"].n == 0
    assert "open_set_auroc" not in estimates


def test_auroc_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 8, (60,), generator=generator).float()
    positive = torch.rand(60, generator=generator) < 0.4
    expected = metrics.roc_auc_score(positive.numpy(), scores.numpy())
    assert float(auroc(scores, positive)) == pytest.approx(expected)
