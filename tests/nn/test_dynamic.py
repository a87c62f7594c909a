"""Dynamic layers against a loop over samples, and fused filters against the factorised layer."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, linear

from lightning_fewshot.nn.dynamic import (
    DynamicConv2d,
    FactorisedConv2d,
    FactorisedDynamicConv2d,
    FactorisedDynamicLinear,
    dynamic_conv2d,
    dynamic_depthwise_conv2d,
    dynamic_linear,
)


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize(("groups", "padding", "bias"), [(1, 0, True), (1, 2, False), (2, 1, True)])
def test_dynamic_conv_is_a_loop_over_samples(draw, repeats, groups, padding, bias):
    banks, channels, out = 4, 6, 8
    x, w = draw(banks * repeats, channels, 9, 7), draw(banks, out, channels // groups, 3, 3)
    b = draw(banks, out) if bias else None
    expected = torch.cat(
        [
            conv2d(
                x[i : i + 1], w[i // repeats], None if b is None else b[i // repeats], padding=padding, groups=groups
            )
            for i in range(len(x))
        ]
    )
    torch.testing.assert_close(dynamic_conv2d(x, w, b, padding, groups), expected)


@pytest.mark.parametrize("repeats", [1, 5])
def test_depthwise_is_a_loop_over_samples_and_channels(draw, repeats):
    x, w = draw(3 * repeats, 4, 8, 8), draw(3, 4, 5, 5)
    y = dynamic_depthwise_conv2d(x, w)
    for i in range(len(x)):
        for c in range(4):
            torch.testing.assert_close(y[i, c], conv2d(x[i, c][None, None], w[i // repeats, c][None, None])[0, 0])


@pytest.mark.parametrize("repeats", [1, 3])
def test_linear_layers_are_matrix_products(draw, repeats):
    x, w, b = draw(2 * repeats, 5), draw(2, 7, 5), draw(2, 7)
    expected = torch.stack([linear(x[i], w[i // repeats], b[i // repeats]) for i in range(len(x))])
    torch.testing.assert_close(dynamic_linear(x, w, b), expected)
    layer = FactorisedDynamicLinear(5, 7, factors=6).double()
    d = draw(2, 6)
    expected = torch.stack(
        [
            layer.back.weight @ torch.diag(d[i // repeats]) @ layer.project.weight @ x[i]
            + layer.back.bias
            + b[i // repeats]
            for i in range(len(x))
        ]
    )
    torch.testing.assert_close(layer(x, d, b), expected)


def test_gradients_flow_into_inputs_and_weights(draw):
    x, w, b = draw(4, 2, 5, 5).requires_grad_(), draw(2, 3, 2, 3, 3).requires_grad_(), draw(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda *args: dynamic_conv2d(*args, padding=1), (x, w, b), fast_mode=True)


@pytest.mark.parametrize(("repeats", "padding"), [(1, 0), (3, 0), (2, 2)])
def test_depthwise_gradients(draw, repeats, padding):
    x, w = draw(2 * repeats, 3, 6, 5).requires_grad_(), draw(2, 3, 3, 3).requires_grad_()
    weights = draw(*dynamic_depthwise_conv2d(x, w, padding).shape)
    got = torch.autograd.grad((dynamic_depthwise_conv2d(x, w, padding) * weights).sum(), (x, w))
    plain = dynamic_conv2d(x, w.unsqueeze(2), padding=padding, groups=3)  # torch's own backward
    torch.testing.assert_close(got, torch.autograd.grad((plain * weights).sum(), (x, w)))
    assert torch.autograd.gradgradcheck(lambda *a: dynamic_depthwise_conv2d(*a, padding), (x, w), fast_mode=True)


def test_depthwise_in_half_precision(draw):
    x, w = draw(2, 3, 8, 8).float().requires_grad_(), draw(2, 3, 3, 3).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        dynamic_depthwise_conv2d(x, w).float().square().sum().backward()
    half = x.grad, w.grad
    x.grad = w.grad = None
    dynamic_depthwise_conv2d(x, w).square().sum().backward()
    for got, whole in zip(half, (x.grad, w.grad), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, whole, rtol=0.1, atol=0.5)


@pytest.mark.parametrize("layer_class", [FactorisedDynamicConv2d, DynamicConv2d])
def test_fused_filters_are_an_ordinary_convolution(draw, layer_class):
    layer = layer_class(4, 6, 3).double()
    nn.init.normal_(layer.bias if layer_class is DynamicConv2d else layer.back.bias)
    x, w, b = draw(5, 4, 8, 8), draw(1, *layer.weight_shape), draw(1, 6)
    torch.testing.assert_close(layer(x, w, b), conv2d(x, *layer.fuse(w[0], b[0])))
    torch.testing.assert_close(layer(x, w), conv2d(x, *layer.fuse(w[0])))


@pytest.mark.parametrize("groups", [1, 2])
def test_factorised_conv_keeps_its_own_filters(draw, groups):
    layer = FactorisedConv2d(4, 6, 3, factors=8, groups=groups).double()
    x = draw(5, 4, 8, 8)
    weight, bias = layer.fuse()
    assert weight.shape == (6, 4 // groups, 3, 3)
    torch.testing.assert_close(layer(x), conv2d(x, weight, bias, groups=groups))
    assert layer.filters.requires_grad


def test_the_paper_predicts_1600_numbers():
    assert torch.Size(FactorisedDynamicConv2d(16, 64, 5, factors=64).weight_shape).numel() == 1600
    assert torch.Size(DynamicConv2d(16, 64, 5).weight_shape).numel() == 16 * 1600  # section 2.1: times d
    assert FactorisedDynamicConv2d(16, 64, 5).weight_shape == (16, 5, 5)  # eq. (8) as written


@pytest.mark.parametrize("inputs", [0, 3])
def test_inputs_must_be_shared_out(draw, inputs):
    if inputs == 0:
        with pytest.raises(ValueError, match="x holds 4 inputs but w holds 0 filter banks"):
            dynamic_conv2d(draw(4, 2, 5, 5), draw(0, 3, 2, 3, 3))
    else:
        with pytest.raises(ValueError, match="x holds 3 inputs but w holds 2 filter banks"):
            dynamic_linear(draw(3, 5), draw(2, 7, 5))


def test_channels_must_fit(draw):
    with pytest.raises(ValueError, match="x has 3 channels"):
        dynamic_conv2d(draw(2, 3, 5, 5), draw(2, 4, 2, 3, 3))
    with pytest.raises(ValueError, match="x has 3 channels"):
        dynamic_depthwise_conv2d(draw(2, 3, 5, 5), draw(2, 4, 3, 3))
