"""Batches of a gradient step and SGD on the head: each clip on its own, nothing changed in place."""

import pytest
import torch

from lightning_fewshot.tracking.candidates.head import classification_loss, margin, score
from lightning_fewshot.tracking.candidates.samples import Samples, draw_batch
from lightning_fewshot.tracking.candidates.settings import Batches
from lightning_fewshot.tracking.candidates.sgd import adapt_sgd

ALL = Batches(5, 7, 0)  # every sample in every step


@pytest.fixture
def head():
    """Two heads of 8 features and 4 hidden units, in double precision."""
    shapes = {"fc4": (4, 8), "fc5": (4, 4), "fc6": (2, 4)}
    found = {}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = 0.5 * torch.randn(2, *shape, dtype=torch.float64)
        found[f"{name}.bias"] = 0.1 * torch.randn(2, shape[0], dtype=torch.float64)
    return found


@pytest.fixture
def data():
    return Samples(torch.randn(2, 5, 8, dtype=torch.float64) + 0.5, torch.randn(2, 7, 8, dtype=torch.float64))


def test_nothing_is_changed_in_place(head, data):
    before = {k: v.clone() for k, v in head.items()}
    adapt_sgd(head, data, ALL, torch.default_generator, 3, 0.1)
    for name, value in before.items():
        assert torch.equal(head[name], value)
        assert not head[name].requires_grad


def test_sgd_of_two_clips_is_that_of_each(head, data):
    options = {"steps": 4, "lr": 0.5, "clip": 0.05, "drop": 0.0}
    both = adapt_sgd(head, data, ALL, torch.default_generator, **options)
    for p in range(2):
        one = {k: v[p : p + 1] for k, v in head.items()}
        alone = adapt_sgd(one, Samples(*(d[p : p + 1] for d in data)), ALL, torch.default_generator, **options)
        for name, value in alone.items():
            torch.testing.assert_close(both[name][p : p + 1], value)


def test_the_hardest_negatives_are_mined(head, data):
    batch = draw_batch(head, data, Batches(2, 3, 7), torch.default_generator)
    scores = margin(score(head, data.negatives))
    found = margin(score(head, batch.negatives))
    torch.testing.assert_close(found, scores.topk(3, dim=1).values)
    assert batch.positives.shape == (2, 2, 8)


def test_samples_are_drawn_once_while_there_are_enough(head, data):
    drawn = draw_batch(head, data, Batches(5, 7, 0), torch.default_generator)
    torch.testing.assert_close(drawn.positives.sum(1), data.positives.sum(1))
    again = draw_batch(head, data, Batches(9, 7, 0), torch.default_generator)
    assert again.positives.shape == (2, 9, 8)


def test_equation_1():
    logits = torch.randn(3, 7, 2)
    labels = torch.tensor([0] * 2 + [1] * 5)  # [1, 0] is positive
    expected = torch.stack([torch.nn.functional.cross_entropy(clip, labels) for clip in logits])
    torch.testing.assert_close(classification_loss(logits, 2), expected)
