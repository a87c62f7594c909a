"""The gradient in closed form against autograd; the meta-learner's sizes and scale."""

import pytest
import torch

from lightning_fewshot.models.mlt.loss import match_loss, target_map
from lightning_fewshot.models.mlt.meta_learner import MetaLearner, negative_gradient
from lightning_fewshot.models.mlt.network import MatchingNetwork, MatchState


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = MatchingNetwork((4, 4, 4, 10), 7).double().eval()
    with torch.no_grad():
        for norm in (network.last_norm, network.adjust):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 3)
            norm.bias.normal_()
    return network


def _hidden(count, side):
    return torch.rand(count, 10, side, side)


def _autograd(network, exemplars, contexts, target):
    """Differentiate the network's own forward pass and the loss, of all patches of one exemplar."""
    each = len(contexts) // len(exemplars)
    responses = network.match(MatchState(exemplars, network.embed(exemplars)), contexts)
    rows = []
    for p in range(len(exemplars)):
        loss = torch.stack([match_loss(responses[p, m], target[p * each + m]) for m in range(each)]).mean()
        (grad,) = torch.autograd.grad(loss, network.last.weight, retain_graph=True)
        rows.append(-grad[..., 0, 0])
    return torch.stack(rows)


@pytest.mark.parametrize(("count", "each"), [(1, 1), (1, 4), (3, 2)])
def test_the_closed_form_is_autograds(network, count, each):
    exemplars, contexts = _hidden(count, 8), _hidden(count * each, 24)
    target = target_map(torch.rand(count * each, 2) * 16, 17, radius=1.0)
    ours = negative_gradient(network.last_layer(), exemplars, contexts, target)
    expected = _autograd(network, exemplars, contexts, target)
    assert ours.shape == (count, 7, 10)
    torch.testing.assert_close(ours.float(), expected.float(), rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_the_gradient_lowers_the_loss(network):
    """A small step along delta, the negative gradient, must lower eq. (6)."""
    exemplars, contexts = _hidden(1, 8), _hidden(4, 24)
    target = target_map(torch.full((4, 2), 8.0), 17)

    def loss():
        with torch.no_grad():
            return match_loss(network.match(MatchState(exemplars, network.embed(exemplars)), contexts)[0], target)

    before, delta = loss(), negative_gradient(network.last_layer(), exemplars, contexts, target)[0]
    with torch.no_grad():
        network.last.weight += (0.05 * delta / delta.norm())[..., None, None]
    assert loss() < before


def test_patches_are_averaged(network):
    exemplars, context = _hidden(1, 8), _hidden(1, 24)
    target = target_map(torch.full((1, 2), 8.0), 17)
    once = negative_gradient(network.last_layer(), exemplars, context, target)
    twice = negative_gradient(network.last_layer(), exemplars, context.repeat(2, 1, 1, 1), target.repeat(2, 1, 1))
    torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-7)


def test_layers_are_the_papers():
    meta = MetaLearner(128, 96, 32)
    assert [tuple(layer.weight.shape) for layer in meta.layers] == [(512, 12288), (512, 512), (4096, 512)]
    assert meta.dropout.p == pytest.approx(0.3)
    assert meta(torch.randn(2, 96, 128)).shape == (2, 32, 128)


def test_the_size_of_the_gradient_does_not_matter_and_its_direction_does():
    meta, delta = MetaLearner(10, 7, 3).eval(), torch.randn(2, 7, 10)
    torch.testing.assert_close(meta(delta), meta(1e-6 * delta), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(meta(delta)[0], meta(delta)[1], atol=1e-4)
    assert bool(meta(torch.zeros(1, 7, 10)).isfinite().all())


def test_dropout_acts_in_training_only():
    meta, delta = MetaLearner(10, 7, 3, hidden=64), torch.randn(1, 7, 10)
    assert not torch.equal(meta(delta), meta(delta))
    meta.eval()
    assert torch.equal(meta(delta), meta(delta))


def test_a_keep_probability_out_of_range_is_refused():
    with pytest.raises(ValueError, match="keep is 0 but must be in"):
        MetaLearner(10, 7, 3, keep=0)
