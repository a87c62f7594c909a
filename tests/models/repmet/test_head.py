"""Eqs. (1)-(5) against plain loops in float64."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from lightning_fewshot.models.repmet import head, loss
from lightning_fewshot.nn.embedding import EmbeddingModule, squared_distances

R, N, K, E = 7, 4, 3, 5
SIGMA, MARGIN = 0.5, 0.3


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    embedded = normalize(torch.randn(R, E, generator=generator, dtype=torch.float64), dim=-1)
    modes = normalize(torch.randn(N, K, E, generator=generator, dtype=torch.float64), dim=-1)
    labels = torch.randint(0, N + 1, (R,), generator=generator)
    return embedded, modes, labels


def loop_distance(a, b):
    return np.sqrt(sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True)))


def loop_nearest(embedded, modes, r):
    return [min(loop_distance(embedded[r], modes[i, j]) for j in range(K)) for i in range(N)]


def test_posteriors_are_the_papers_equations(drawn):
    embedded, modes, _ = drawn
    probs = head.mode_probabilities(squared_distances(embedded, modes), SIGMA)
    posterior = head.class_posterior(probs)
    background = head.background_posterior(posterior)
    for r in range(R):
        p = [
            [np.exp(-(loop_distance(embedded[r], modes[i, j]) ** 2) / (2 * SIGMA**2)) for j in range(K)]
            for i in range(N)
        ]
        np.testing.assert_allclose(probs[r].numpy(), p, rtol=1e-9)  # (1)
        np.testing.assert_allclose(posterior[r].numpy(), np.max(p, axis=1), rtol=1e-9)  # (2)
        assert background[r].item() == pytest.approx(1 - np.max(p))  # (3)
        soft = head.soft_class_posterior(probs)[r].numpy()
        np.testing.assert_allclose(soft, np.sum(p, axis=1) / np.sum(p), rtol=1e-9)  # (5)


def test_embedding_loss_is_equation_4(drawn):
    embedded, modes, labels = drawn
    losses = loss.embedding_loss(squared_distances(embedded, modes), labels, MARGIN)
    for r in range(R):
        nearest = loop_nearest(embedded, modes, r)
        own = int(labels[r]) - 1
        wrong = min(d for i, d in enumerate(nearest) if i != own)
        expected = max(nearest[own] - wrong + MARGIN, 0) if own >= 0 else 0
        assert losses[r].item() == pytest.approx(expected, abs=1e-5)


def test_unused_slots_neither_attract_nor_repel(drawn):
    embedded, modes, labels = drawn
    used = torch.ones(N, K, dtype=torch.bool)
    used[:, 2] = False
    apart = squared_distances(embedded, modes)
    fewer = squared_distances(embedded, modes[:, :2])
    probs = head.mode_probabilities(apart, SIGMA, used)
    torch.testing.assert_close(head.class_posterior(probs), head.class_posterior(head.mode_probabilities(fewer, SIGMA)))
    torch.testing.assert_close(
        loss.embedding_loss(apart, labels, MARGIN, used), loss.embedding_loss(fewer, labels, MARGIN)
    )


def test_permuting_classes_permutes_posteriors(drawn):
    embedded, modes, _ = drawn
    order = torch.tensor([2, 0, 3, 1])
    posterior = head.class_posterior(head.mode_probabilities(squared_distances(embedded, modes), SIGMA))
    permuted = head.class_posterior(head.mode_probabilities(squared_distances(embedded, modes[order]), SIGMA))
    torch.testing.assert_close(permuted, posterior[:, order])


def test_gradient_is_finite_where_embedding_meets_representative():
    point = torch.tensor([[1.0, 0.0]], requires_grad=True)
    modes = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    loss.embedding_loss(squared_distances(point, modes), torch.tensor([1]), 2.0).sum().backward()
    assert torch.isfinite(point.grad).all()


def test_triplet_loss_is_the_loop(drawn):
    embedded, _, labels = drawn
    total, count = 0.0, 0
    for a in range(R):
        for p in range(R):
            if a == p or labels[a] != labels[p] or labels[a] == 0:
                continue
            negative = min(loop_distance(embedded[a], embedded[n]) for n in range(R) if labels[n] != labels[a])
            total += max(loop_distance(embedded[a], embedded[p]) - negative + MARGIN, 0)
            count += 1
    assert count > 0
    assert loss.triplet_loss(embedded, labels, MARGIN).item() == pytest.approx(total / count, abs=1e-5)


def test_posterior_logits_hold_background_first(drawn):
    embedded, modes, _ = drawn
    probs = head.mode_probabilities(squared_distances(embedded, modes), SIGMA)
    logits = head.posterior_logits(probs, scale=15, kind="scaled")
    torch.testing.assert_close(logits[:, 1:], 15 * probs.amax(-1))
    torch.testing.assert_close(logits[:, 0], 15 * (1 - probs.amax((-1, -2))))


def test_log_logits_of_scale_1_are_the_normalised_posteriors(drawn):
    embedded, modes, _ = drawn
    probs = head.mode_probabilities(squared_distances(embedded, modes), SIGMA)
    posterior = torch.cat([1 - probs.amax((-1, -2))[:, None], probs.amax(-1)], dim=1)
    expected = posterior / posterior.sum(1, keepdim=True)
    torch.testing.assert_close(head.posterior_logits(probs, scale=1).softmax(1), expected)


def test_the_embedding_module_is_its_layers_and_a_linear_layer_to_unit_length():
    module = EmbeddingModule(12, (8, 6), dim=4).eval()
    pooled = torch.randn(R, 12)
    features = module(pooled)
    assert features.shape == (R, 6)
    assert (features >= 0).all()  # section 4.2: ReLU
    expected = features @ module.last.weight.T + module.last.bias
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(module.embed(features), expected)
