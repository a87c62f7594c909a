"""The studies of MLT: what is fitted lowers the loss, and rules pick what they say."""

import pytest
import torch

from lightning_fewshot import MatchingTracker
from lightning_fewshot.models.mlt.settings import MatchingSettings
from lightning_fewshot.nn.response_loss import DiscLoss
from studies.mlt_memory import Seen, background_share, picked
from studies.mlt_oracle import Extra, Oracle, Target, centre_of, loss_of, responses


@pytest.fixture
def oracle():
    torch.manual_seed(0)
    module = MatchingTracker(MatchingSettings((6, 8, 10, 12), 8)).eval().requires_grad_(False)
    return Oracle(module.network, DiscLoss(balance=True, radius=1), kernels=4, steps=8)


@pytest.fixture
def target(oracle):
    images = torch.randint(0, 256, (6, 3, 255, 255), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    cells = torch.tensor([[8.0, 8.0], [3.0, 12.0]]).repeat(3, 1)
    network = oracle.network
    return Target(network.adapt(images[:1, :, 64:191, 64:191]), network.hidden(images), cells)


def test_without_an_addition_it_is_the_network(oracle, target):
    alone = oracle.network.match(target.state, target.hidden)[0]
    torch.testing.assert_close(responses(oracle.network, target, Extra(), slice(None)), alone)
    kernels = oracle.start(12).detach()
    state = oracle.network.with_kernels(target.state, kernels[None])
    found = responses(oracle.network, target, Extra(kernels), slice(None))
    torch.testing.assert_close(found, oracle.network.match(state, target.hidden)[0], rtol=1e-4, atol=1e-4)


def test_fitted_additions_lower_the_loss_on_what_they_were_fitted_to(oracle, target):
    seen = target.seen()
    alone = loss_of(oracle.network, oracle.loss, target, Extra(), seen)
    start = loss_of(oracle.network, oracle.loss, target, Extra(oracle.start(12)), seen)
    for extra, before in ((oracle.adjusted(target), alone), (oracle.specific(target, None), start)):
        assert loss_of(oracle.network, oracle.loss, target, extra, seen) < before
    assert loss_of(oracle.network, oracle.loss, target, oracle.common([target, target]), seen) < start


def test_seen_and_held_out_patches_are_disjoint(oracle, target):
    numbers = torch.arange(6)
    assert numbers[target.seen()].tolist() == [0, 2, 4]
    assert numbers[target.seen(2)].tolist() == [0, 2]
    changed = target._replace(hidden=target.hidden.clone())
    changed.hidden[1::2] += 1
    torch.testing.assert_close(centre_of([changed]), centre_of([target]))
    torch.testing.assert_close(oracle.specific(changed, None).kernels, oracle.specific(target, None).kernels)


def test_the_loss_and_hits_are_of_held_out_patches(oracle, target):
    place = responses(oracle.network, target, Extra(), slice(1, None, 2)).flatten(1).argmax(1)
    cells = torch.stack((place % 17, place // 17), 1).float()
    right = target._replace(cells=target.cells.clone())
    right.cells[1::2] = cells
    assert oracle.judged(right, Extra())[1] == 1.0
    right.cells[1::2] = (cells + 8) % 17
    assert oracle.judged(right, Extra())[1] == 0.0


def test_rules_pick_within_blocks_and_a_rest_is_left_out():
    overlap = torch.arange(7.0)
    seen = Seen(overlap, torch.tensor([5.0, 1, 2, 9, 8, 7, 0]), torch.zeros(7), torch.tensor([0.0, 5, 1, 3, 9, 4, 99]))
    assert picked(seen, "least entropy", 3, 1).flatten().tolist() == [1, 5]
    assert picked(seen, "highest score", 3, 1).flatten().tolist() == [1, 4]
    assert picked(seen, "random", 3, 1).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_low_background_makes_up_the_entropy():
    response = torch.full((17, 17), -2.3)
    response[8, 8] = 4.0
    assert background_share(response) > 0.9
    response -= 100 * (response < 0)
    assert background_share(response) == pytest.approx(0.0, abs=1e-6)
