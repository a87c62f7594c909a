"""The response loss in numpy, its slope against autograd, its target maps by counting."""

import numpy as np
import pytest
import torch

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.nn.response_loss import DiscLoss, SquareLoss, pair_targets, query_cells


@pytest.mark.parametrize("balance", [True, False])
def test_loss_is_the_papers_in_numpy(balance):
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(3, 5, 5))
    target = np.zeros((3, 5, 5))
    target[:2, 2, 2], target[:2, 2, 3] = 1, 0.5
    losses = target * np.log1p(np.exp(-responses)) + (1 - target) * np.log1p(np.exp(responses))
    if balance:
        expected = 0.0
        for r, t in zip(responses, target, strict=True):
            matching = (t * np.log1p(np.exp(-r))).sum() / t.sum() if t.any() else 0
            expected += (matching + ((1 - t) * np.log1p(np.exp(r))).sum() / (1 - t).sum()) / 2 / 3
    else:
        expected = losses.mean()
    for loss in (SquareLoss(balance), DiscLoss(balance)):
        ours = loss(torch.from_numpy(responses), torch.from_numpy(target))
        assert ours.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("balance", [True, False])
def test_loss_is_equation_6_of_mlt(balance):
    rng = np.random.default_rng(0)
    responses, y = rng.normal(size=(2, 5, 5)), np.full((2, 5, 5), -1.0)
    y[0, 1, 3], y[1, 2, 2] = 1, 1
    losses = np.log1p(np.exp(-responses * y))
    halves = [np.mean([losses[b][y[b] == s].mean() for b in range(2)]) / 2 for s in (1, -1)]
    expected = sum(halves) if balance else losses.mean()
    ours = DiscLoss(balance)(torch.from_numpy(responses), torch.from_numpy((y + 1) / 2))
    assert ours.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("balance", [True, False])
def test_the_slope_is_autograds(balance):
    generator = torch.Generator().manual_seed(0)
    responses = torch.randn(3, 7, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    loss = DiscLoss(balance, radius=1.0)
    target = loss.target(torch.rand(3, 2, generator=generator, dtype=torch.float64) * 6, 7)
    target[2] = 0  # nothing matches
    (expected,) = torch.autograd.grad(3 * loss(responses, target), responses)  # of each map: three times the mean's
    torch.testing.assert_close(loss.slope(responses, target), expected)


@pytest.mark.parametrize("radius", [0.0, 1.0, 2.0])
def test_a_disc_counts_cells_by_distance(radius):
    cells = torch.tensor([[8.0, 8.0], [3.4, 10.6], [-2.0, 30.0]])
    expected = np.zeros((3, 17, 17))
    for b, (x, y) in enumerate([(8, 8), (3, 11), (0, 16)]):
        for i in range(17):
            for j in range(17):
                expected[b, i, j] = (i - y) ** 2 + (j - x) ** 2 <= radius**2
    np.testing.assert_array_equal(DiscLoss(radius=radius).target(cells, 17).numpy(), expected)


def test_a_square_covers_parts_of_cells():
    line = torch.tensor([0.5, 1.0, 0.5])
    expected = torch.zeros(1, 5, 5)
    expected[0, 1:4, 1:4] = line[:, None] * line
    torch.testing.assert_close(SquareLoss(side=2).target(torch.tensor([[2.0, 2.0]]), 5), expected)


def test_pairs_of_two_objects_match_nowhere():
    boxes = [torch.tensor([[97.5, 97.5, 157.5, 157.5]])] * 2
    query = Examples(torch.zeros(2, 3, 255, 255), torch.tensor([1, 0]), boxes=boxes)
    episode = Episode(Examples(torch.zeros(2, 3, 127, 127)), query, ("object",), protocol="pairs")
    cells = query_cells(episode, "pairs", 127, 8)
    assert cells.tolist() == [[8.0, 8.0], [8.0, 8.0]]
    assert pair_targets(DiscLoss(), episode, cells, torch.zeros(2, 17, 17)).sum((1, 2)).tolist() == [1, 0]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="side is 0 but must be above 0"):
        SquareLoss(side=0)
    with pytest.raises(ValueError, match="radius is -1 but must be at least 0"):
        DiscLoss(radius=-1)
