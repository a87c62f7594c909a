"""Pruning: equations (9) to (11) against explicit sums, and the removed network against the masked one."""

import pytest
import torch
from clips import clip_episode
from torch.nn.functional import max_pool2d

from lightning_fewshot.models.metartt.adaptation import adapt
from lightning_fewshot.models.metartt.channels import remove_channels
from lightning_fewshot.models.metartt.pruned_module import PrunedMetaRTT
from lightning_fewshot.models.metartt.pruning_loss import episode_loss, lasso_loss, sample_maps, trajectory_loss
from lightning_fewshot.models.metartt.pruning_network import PruningNetwork, layer_widths, pooled_maps
from lightning_fewshot.models.metartt.rates import Rates
from lightning_fewshot.models.metartt.settings import InnerLoop, OnlineAdaptation
from lightning_fewshot.tracking.candidates.head import score
from lightning_fewshot.tracking.candidates.network import response_normalisation
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.settings import Batches
from lightning_fewshot.tracking.candidates.strategy import View


@pytest.fixture
def view(network):
    scenes = torch.rand(2, 3, 3, 160, 160) * 255
    corner = 40 + 40 * torch.rand(2, 3, 5, 2)
    head = {k: v + 0.1 * torch.randn(2, *v.shape[1:]) for k, v in network.head(2).items()}
    return View(scenes, torch.cat((corner, corner + 45), dim=3), head)


def _masks(network, clips=2, zeros=True):
    found = {}
    for name, width in layer_widths(network).items():
        found[name] = 0.5 + torch.rand(clips, width)
        if zeros:
            found[name][:, ::2] = 0
    return found


def test_layers_that_are_pruned(network):
    assert layer_widths(network) == {"conv1": 3, "conv2": 4, "conv3": 5, "fc4": 6, "fc5": 6}


def test_equation_9(network, view):
    masks = _masks(network)
    full, pruned = sample_maps(network, view), sample_maps(network, view, masks)
    found = lasso_loss(masks, full, pruned, 0.3)
    for p in range(2):
        size = sum(mask[p].abs().sum() for mask in masks.values())
        errors = []
        for i in range(15):
            errors.append(sum((full[k][p, i] - pruned[k][p, i]).norm() for k in ("conv3", "fc4", "fc5", "fc6")))
        torch.testing.assert_close(found[p], 0.3 * size + torch.stack(errors).mean())


def test_equation_10_masks_after_every_nonlinearity(network, view):
    """A clip's masked maps, layer by layer with ordinary modules."""
    masks = _masks(network)
    shared, p = network.shared, 1
    x = (view.scenes[p] - 128) / 64
    for stage in ("conv1", "conv2", "conv3"):
        x = masks[stage][p].view(1, -1, 1, 1) * getattr(shared, stage)(x).relu()
        x = response_normalisation(x) if stage != "conv3" else x
        x = max_pool2d(x, 3, 2) if stage == "conv1" else x
    features = network.describe(x, view.boxes[p]).flatten(0, 1)
    h4 = masks["fc4"][p] * (features @ view.head["fc4.weight"][p].T + view.head["fc4.bias"][p]).relu()
    found = sample_maps(network, view, masks)
    torch.testing.assert_close(found["conv3"][p], features)
    torch.testing.assert_close(found["fc4"][p], h4)


def test_masks_of_one_change_nothing(network, view):
    ones = {k: torch.ones(2, w) for k, w in layer_widths(network).items()}
    loss = episode_loss(network, ones, [view], 0.0)
    assert loss.max() < 1e-4


def test_removed_channels_compute_what_masked_ones_do(network, view):
    masks = {k: v[:1] for k, v in _masks(network).items()}
    one = View(view.scenes[:1], view.boxes[:1], {k: v[:1] for k, v in view.head.items()})
    pruned = remove_channels(network, masks)
    head = pruned.cut(one.head)
    features = pruned.network.describe(pruned.network.shared(one.scenes[0]), one.boxes[0]).view(1, 15, -1)
    torch.testing.assert_close(score(head, features, pruned.scales), sample_maps(network, one, masks)["fc6"])
    shapes = [tuple(getattr(pruned.network.shared, f"conv{i}").weight.shape[:2]) for i in (1, 2, 3)]
    assert shapes == [(1, 3), (2, 1), (2, 2)]
    assert head["fc4.weight"].shape == (1, 3, 2 * 9)
    assert head["fc5.weight"].shape == (1, 3, 3)
    assert head["fc6.weight"].shape == (1, 2, 3)
    assert network.shared.conv1.weight.shape[0] == 3  # the whole network is as it was
    counted = sum(p.numel() for p in pruned.network.shared.parameters()) + sum(p.numel() for p in head.values())
    whole = sum(p.numel() for p in network.parameters())
    assert pruned.rate == pytest.approx(1 - counted / whole)
    assert sum(int(kept.sum()) for kept in pruned.keep.values()) == 1 + 2 + 2 + 3 + 3


@pytest.mark.parametrize("kind", ["vector", "scalar"])
def test_adapting_the_smaller_head_is_adapting_the_masked_one(network, view, kind):
    masks = {k: v[:1] for k, v in _masks(network).items()}
    pruned = remove_channels(network, masks)
    one = View(view.scenes[:1], view.boxes[:1], {k: v[:1] for k, v in view.head.items()})
    rates = Rates(network, 2, kind, 0.05)
    with torch.no_grad():
        for p in rates.parameters():
            p.mul_(0.5 + torch.rand(p.shape))
    features = sample_maps(network, one, masks)["conv3"]
    small = pruned.network.describe(pruned.network.shared(one.scenes[0]), one.boxes[0]).view(1, 15, -1)
    kept = {k: masks[k] for k in ("fc4", "fc5")}
    everything = Batches(6, 9, 0)
    torch.manual_seed(0)
    data = Samples(features[:, :6], features[:, 6:])
    large = adapt(one.head, rates.steps(), data, everything, torch.default_generator, kept)[-1]
    torch.manual_seed(0)
    data = Samples(small[:, :6], small[:, 6:])
    steps = [pruned.cut(step) for step in rates.steps()]
    adapted = adapt(pruned.cut(one.head), steps, data, everything, torch.default_generator, pruned.scales)[-1]
    torch.testing.assert_close(score(adapted, small, pruned.scales), score(large, features, kept))


def test_a_layer_whose_channels_are_all_masked_keeps_the_best(network):
    masks = {k: v[:1] for k, v in _masks(network).items()}
    masks["conv2"] = torch.zeros(1, 4)
    with pytest.warns(UserWarning, match="the mask of conv2 removes all 4 channels; the best one is kept"):
        pruned = remove_channels(network, masks)
    assert pruned.keep["conv2"].sum() == 1


def test_the_pruning_network_starts_near_one_and_reaches_zero(network, view):
    psi = PruningNetwork(network).eval()
    pooled = {k: v.detach() for k, v in pooled_maps(network, view).items()}
    assert {k: v.shape for k, v in pooled.items()} == {k: (2, 15, w) for k, w in layer_widths(network).items()}
    masks = psi(pooled)
    assert all((v - 1).abs().max() < 0.5 for v in masks.values())
    optimizer = torch.optim.Adam(psi.parameters(), lr=0.05)
    for _ in range(60):  # nothing but the penalty
        optimizer.zero_grad()
        sum(v.sum() for v in psi(pooled).values()).backward()
        optimizer.step()
    assert all((v == 0).any() for v in psi(pooled).values())


def test_a_clip_has_its_own_mask(network, view):
    psi = PruningNetwork(network).eval()
    for mlp in psi.mlp.values():
        torch.nn.init.normal_(mlp[-1].weight, std=0.5)
    masks = psi(pooled_maps(network, view))
    alone = View(view.scenes[:1], view.boxes[:1], {k: v[:1] for k, v in view.head.items()})
    for name, mask in psi(pooled_maps(network, alone)).items():
        torch.testing.assert_close(mask[0], masks[name][0])
    assert any((v[0] - v[1]).abs().max() > 1e-3 for v in masks.values())


def test_equation_11_sums_over_the_trajectory(tiny):
    module = PrunedMetaRTT(**tiny, inner=InnerLoop(2), online=OnlineAdaptation(3))
    with torch.no_grad():
        tau = module.simulate(clip_episode(2))
    network, masks, scenes = module.network, _masks(module.network), tau.clips.scenes
    first, online, test = tau.boxes
    views = [View(scenes[:, :1], first[:, None], tau.after_initial)]
    views += [View(scenes[:, 1:-1], online, head) for head in tau.after_online]
    expected = episode_loss(network, masks, views, 0.1)
    # D_test: 14 samples of the own clip and one target of the other
    own = sample_maps(network, View(scenes[:, -1:], test[:, None], tau.after_online[-1]))
    low = (160 - 40) / 2
    centre = torch.tensor([low, low, low + 40, low + 40]).expand(2, 1, 1, 4)
    other = View(scenes[:, -1:].flip(0), centre, tau.after_online[-1])
    end = View(scenes[:, -1:], test[:, None], tau.after_online[-1])
    full = {k: torch.cat((v, sample_maps(network, other)[k]), 1) for k, v in own.items()}
    pruned = {
        k: torch.cat((v, sample_maps(network, other, masks)[k]), 1) for k, v in sample_maps(network, end, masks).items()
    }
    expected = expected + lasso_loss(masks, full, pruned, 0.1)
    torch.testing.assert_close(trajectory_loss(network, masks, tau, 0.1), expected)
