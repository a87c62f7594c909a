"""The inner loop: second derivatives against finite differences, batched clips against single ones, recomputation."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_fewshot.models.metartt.adaptation import adapt
from lightning_fewshot.tracking.candidates.head import margin, score
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.settings import Batches

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


def _rates(head, steps=3):
    return [{k: 0.2 + 0.05 * torch.randn(1, *v.shape[1:], dtype=torch.float64) for k, v in head.items()}] * steps


def _outer(head, rates, data, **options):
    """A loss after the inner loop, on other samples."""
    adapted = adapt(head, rates, data, ALL, torch.default_generator, **options)[-1]
    probe = torch.linspace(-1, 1, 2 * 6 * 8, dtype=torch.float64).view(2, 6, 8)
    return margin(score(adapted, probe)).sin().sum()


def test_one_step_is_gradient_descent_on_every_clip(head, data):
    rates = _rates(head, 1)
    found = adapt(head, rates, data, ALL, torch.default_generator)[-1]
    for p in range(2):
        layers = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double()
        for layer, name in zip(layers[::2], ("fc4", "fc5", "fc6"), strict=True):
            layer.load_state_dict({k: head[f"{name}.{k}"][p] for k in ("weight", "bias")})
        labels = torch.tensor([0] * 5 + [1] * 7)
        cross_entropy(layers(torch.cat((data.positives[p], data.negatives[p]))), labels).backward()
        for layer, name in zip(layers[::2], ("fc4", "fc5", "fc6"), strict=True):
            for k, value in layer.named_parameters():
                expected = value - rates[0][f"{name}.{k}"][0] * value.grad
                torch.testing.assert_close(found[f"{name}.{k}"][p], expected.detach())


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_through_three_steps_against_finite_differences(head, data, recompute):
    names, rates = list(head), _rates(head, 1)[0]

    def outer(*tensors):
        n = len(names)
        own, alpha = dict(zip(names, tensors[:n], strict=True)), dict(zip(names, tensors[n : 2 * n], strict=True))
        return _outer(own, [alpha] * 3, Samples(*tensors[2 * n :]), recompute=recompute)

    inputs = [t.clone().requires_grad_() for t in (*head.values(), *rates.values(), *data)]
    assert torch.autograd.gradcheck(outer, inputs, eps=1e-6, atol=1e-5, fast_mode=True)
    assert torch.autograd.gradcheck(lambda w: outer(*inputs[:4], w, *inputs[5:]), inputs[4])  # fc6.weight, every entry


def _saved_bytes(work):
    total = 0

    def pack(tensor):
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = work()
    return total, loss


def test_recomputation_gives_equal_gradients_from_less_memory(head, data):
    found, sizes = [], []
    wide = Samples(*(part.repeat(1, 40, 1) for part in data))
    for recompute in (False, True):
        leaves = {k: v.clone().requires_grad_() for k, v in head.items()}
        rates = [{k: torch.full_like(v[:1], 0.1).requires_grad_() for k, v in head.items()} for _ in range(3)]
        batches = Batches(200, 280, 0)

        def work(leaves=leaves, rates=rates, recompute=recompute, batches=batches):
            torch.manual_seed(0)
            steps = adapt(leaves, rates, wide, batches, torch.default_generator, recompute=recompute)
            return margin(score(steps[-1], data.positives)).square().sum()

        size, loss = _saved_bytes(work)
        sizes.append(size)
        found.append(torch.autograd.grad(loss, [*leaves.values(), *(v for r in rates for v in r.values())]))
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-10, atol=1e-12)
    assert sizes[1] < 0.6 * sizes[0]


def test_first_order_leaves_out_second_derivatives(head, data):
    def gradient(**options):
        leaves = {k: v.clone().requires_grad_() for k, v in head.items()}
        return torch.autograd.grad(_outer(leaves, _rates(head), data, **options), leaves["fc4.weight"])[0]

    torch.manual_seed(1)
    full = gradient()
    torch.manual_seed(1)
    first = gradient(first_order=True)
    torch.manual_seed(1)
    adapted = {
        k: v.detach().requires_grad_()
        for k, v in adapt(head, _rates(head), data, ALL, torch.default_generator)[-1].items()
    }
    probe = torch.linspace(-1, 1, 2 * 6 * 8, dtype=torch.float64).view(2, 6, 8)
    outer = margin(score(adapted, probe)).sin().sum()
    torch.testing.assert_close(first, torch.autograd.grad(outer, adapted["fc4.weight"])[0])
    assert (full - first).abs().max() > 1e-4


def test_gradients_of_a_clip_are_clipped_together(head, data):
    rates = [dict.fromkeys(head, torch.ones(1, dtype=torch.float64))]
    found = adapt(head, rates, data, ALL, torch.default_generator, clip=0.01)[-1]
    moved = torch.stack([(found[k] - head[k]).flatten(1).square().sum(1) for k in head]).sum(0).sqrt()
    torch.testing.assert_close(moved, torch.full((2,), 0.01, dtype=torch.float64))


def test_nothing_is_changed_in_place(head, data):
    before = {k: v.clone() for k, v in head.items()}
    adapt(head, _rates(head), data, ALL, torch.default_generator)
    for name, value in before.items():
        assert torch.equal(head[name], value)
        assert not head[name].requires_grad
