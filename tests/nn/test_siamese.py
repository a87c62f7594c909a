"""The stream's geometry against impulse responses; the response layer against a plain correlation."""

import pytest
import torch

from lightning_fewshot.nn.correlation import cross_correlation
from lightning_fewshot.nn.siamese import ResponseLayer, SiameseStream, folded, split_parameters


def _stream(last):
    torch.manual_seed(0)
    return SiameseStream((4, 4, 4, 4, 4), (11, 5, 3, 3, last)).double().eval()


@pytest.mark.parametrize(("last", "cells"), [(3, (6, 22)), (1, (8, 24))])
def test_sides_of_maps_are_what_the_network_returns(last, cells):
    stream = _stream(last)
    for side, expected in zip((127, 255), cells, strict=True):
        assert stream.map_side(side) == expected == stream(torch.zeros(1, 3, side, side).double()).shape[-1]


@pytest.mark.parametrize("last", [1, 3])
def test_an_image_moved_by_the_stride_moves_the_map_by_a_cell(last):
    stream = _stream(last)
    image = torch.rand(1, 3, 159, 159).double()
    with torch.no_grad():
        here = stream(image[..., : 159 - stream.stride])
        moved = stream(image[..., stream.stride :])
    torch.testing.assert_close(here[..., 1:], moved[..., :-1])


@pytest.mark.parametrize("training", [True, False])
def test_pooling_before_the_relu_is_pooling_after_it(training):
    """Bit for bit, and the gradients too: also where maxima tie and where all of a window is negative."""
    stream = _stream(3).train(training)
    with torch.no_grad():
        for norm in stream.norms:
            norm.bias.uniform_(-1, 1)
    image = torch.randint(-1, 2, (2, 3, 127, 127)).double().requires_grad_()
    image.data[..., 60:] = 0.25  # equal pixels, so equal maxima
    ours = stream(image)
    x = image
    for i, (conv, norm) in enumerate(zip(stream.convs, stream.norms, strict=True)):
        x = norm(conv(x))
        x = torch.relu(x) if i < 4 else x
        x = torch.max_pool2d(x, 3, 2) if i < 2 else x
    assert torch.equal(ours, x)
    leaves = [image, *stream.parameters()]
    weights = torch.randn_like(x)
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), leaves) for y in (ours, x)), strict=True):
        assert torch.equal(a, b)


def _moved(stream):
    """Give every normalisation numbers of its own, as training does."""
    with torch.no_grad():
        for norm in stream.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    return stream


@pytest.mark.parametrize("second", ["plain", "learned", "predicted"])
def test_a_folded_stream_says_the_same_and_leaves_the_other_as_it_was(second):
    torch.manual_seed(0)
    stream = _moved(SiameseStream((4, 6, 4, 4, 4), second=second)).eval()
    before = {name: value.clone() for name, value in stream.state_dict().items()}
    filters = torch.randn(1, *stream.convs[1].weight_shape) if second == "predicted" else None
    images = stream.pixels(torch.randint(0, 256, (2, 3, 159, 159)))
    with torch.no_grad():
        expected, ours = stream(images, filters), stream.folded()(images, filters)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    after = stream.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert all(p.requires_grad for p in stream.parameters())
    assert [type(norm).__name__ for norm in stream.folded().norms] == [*["Identity"] * 4, "BatchNorm2d"]


def test_a_network_is_folded_in_evaluation_alone():
    network = torch.nn.Module()
    network.stream = _moved(SiameseStream((4, 4, 4, 4, 4)))
    assert folded(network.train()) is network
    stream, like = network.stream, folded(network.eval())
    assert like is not network
    assert like.stream is not stream
    assert network.stream is stream


def test_a_cell_sees_the_pixels_that_the_stride_says():
    stream = _stream(3)
    image = torch.rand(1, 3, 127, 127).double().requires_grad_()
    spans = []
    for column in (1, 2):
        (grad,) = torch.autograd.grad(stream(image)[0, :, 2, column].abs().sum(), image)
        columns = grad.abs().sum((0, 1, 2)).nonzero()[:, 0]
        spans.append((int(columns[0]), int(columns[-1])))
    width = 87  # pixels: of 11/2, 3/2, 5, 3/2, 3, 3 and 3
    assert spans[0][0] >= stream.stride
    assert spans[1][1] < 2 * stream.stride + width
    assert max(last - first + 1 for first, last in spans) <= width


def test_the_response_is_scaled_and_shifted_correlation():
    layer = ResponseLayer().eval()
    with torch.no_grad():
        layer.adjust.weight.fill_(2)
        layer.adjust.bias.fill_(-1)
        template, maps = torch.randn(2, 3, 2, 2), torch.randn(4, 3, 5, 5)
        expected = 2 * cross_correlation(template, maps) / (1 + layer.adjust.eps) ** 0.5 - 1
        torch.testing.assert_close(layer(template, maps), expected)


def test_parameters_are_split_without_loss():
    module = torch.nn.Sequential(_stream(3), ResponseLayer())
    rest, inside = split_parameters(module, module[1])
    assert {id(p) for p in rest + inside} == {id(p) for p in module.parameters()}
    assert {id(p) for p in inside} == {id(p) for p in module[1].parameters()}


def test_other_numbers_of_layers_and_other_images_are_refused():
    with pytest.raises(ValueError, match=r"channels is \(8, 8\) but must be 5 numbers"):
        SiameseStream((8, 8))
    with pytest.raises(ValueError, match=r"search patches are \(1, 3, 20, 90\) but must be"):
        _stream(3).pixels(torch.zeros(1, 3, 20, 90), least=80, name="search patches")
