"""The gradient in closed form against autograd; the meta-learner's sizes and scale."""

import pytest
import torch

from lightning_fewshot.models.mlt.gradient import negative_gradient
from lightning_fewshot.models.mlt.meta_learner import MetaLearner
from lightning_fewshot.models.mlt.network import MatchingNetwork, MatchState
from lightning_fewshot.models.mlt.settings import MatchingSettings, MetaLearnerSettings
from lightning_fewshot.nn.response_loss import DiscLoss, SquareLoss


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = MatchingNetwork(MatchingSettings((4, 4, 4, 10), 7)).double().eval()
    with torch.no_grad():
        for norm in (network.stream.norms[-1], network.response.adjust):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 3)
            norm.bias.normal_()
    return network


def _hidden(count, side):
    return torch.rand(count, 10, side, side)


def _autograd(network, exemplars, contexts, target, loss):
    """Differentiate the network's own forward pass and the loss, of all patches of one exemplar."""
    each = len(contexts) // len(exemplars)
    responses = network.match(MatchState(exemplars, network.embed(exemplars)), contexts)
    rows = []
    for p in range(len(exemplars)):
        value = loss(responses[p], target[p * each : (p + 1) * each])
        (grad,) = torch.autograd.grad(value, network.stream.convs[-1].weight, retain_graph=True)
        rows.append(-grad[..., 0, 0])
    return torch.stack(rows)


LOSSES = [DiscLoss(balance=False, radius=1.0), DiscLoss(balance=True, radius=1.0), SquareLoss()]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize(("count", "each"), [(1, 1), (1, 4), (3, 2)])
def test_the_closed_form_is_autograds_of_the_same_loss(network, count, each, loss):
    exemplars, contexts = _hidden(count, 8), _hidden(count * each, 24)
    target = loss.target(torch.rand(count * each, 2) * 16, 17)
    ours = negative_gradient(network.last_layer(), exemplars, contexts, target=target, loss=loss)
    expected = _autograd(network, exemplars, contexts, target, loss)
    assert ours.shape == (count, 7, 10)
    torch.testing.assert_close(ours.float(), expected.float(), rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_the_gradient_lowers_the_loss(network, loss):
    """A small step along delta, the negative gradient, must lower the loss that it is of."""
    exemplars, contexts = _hidden(1, 8), _hidden(4, 24)
    target = loss.target(torch.full((4, 2), 8.0), 17)

    def value():
        with torch.no_grad():
            return loss(network.match(MatchState(exemplars, network.embed(exemplars)), contexts)[0], target)

    before = value()
    delta = negative_gradient(network.last_layer(), exemplars, contexts, target=target, loss=loss)[0]
    with torch.no_grad():
        network.stream.convs[-1].weight += (0.05 * delta / delta.norm())[..., None, None]
    assert value() < before


def test_patches_are_averaged(network):
    exemplars, context, loss = _hidden(1, 8), _hidden(1, 24), DiscLoss()
    target, layer = loss.target(torch.full((1, 2), 8.0), 17), network.last_layer()
    once = negative_gradient(layer, exemplars, context, target=target, loss=loss)
    repeated = {"target": target.repeat(2, 1, 1), "loss": loss}
    twice = negative_gradient(layer, exemplars, context.repeat(2, 1, 1, 1), **repeated)
    torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-7)


def test_layers_are_the_papers():
    meta = MetaLearner(128, 96)
    assert [tuple(layer.weight.shape) for layer in meta.layers] == [(512, 12288), (512, 512), (4096, 512)]
    assert meta.dropout.p == pytest.approx(0.3)
    assert meta(torch.randn(2, 96, 128)).shape == (2, 32, 128)


def test_the_size_of_the_gradient_does_not_matter_and_its_direction_does():
    meta, delta = MetaLearner(10, 7, MetaLearnerSettings(target_kernels=3)).eval(), torch.randn(2, 7, 10)
    torch.testing.assert_close(meta(delta), meta(1e-6 * delta), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(meta(delta)[0], meta(delta)[1], atol=1e-4)
    assert bool(meta(torch.zeros(1, 7, 10)).isfinite().all())


def test_dropout_acts_in_training_only():
    meta, delta = MetaLearner(10, 7, MetaLearnerSettings(hidden=64, target_kernels=3)), torch.randn(1, 7, 10)
    assert not torch.equal(meta(delta), meta(delta))
    meta.eval()
    assert torch.equal(meta(delta), meta(delta))


def test_a_keep_probability_out_of_range_is_refused():
    with pytest.raises(ValueError, match="keep is 0 but must be in"):
        MetaLearnerSettings(keep=0)
