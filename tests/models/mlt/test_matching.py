"""The matching network of section 3.2.1: sizes, the response, equation 6, target-specific kernels, export."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn.functional import conv2d, normalize

from lightning_fewshot.models.mlt.export import StaticMatcher
from lightning_fewshot.models.mlt.network import MatchingNetwork
from lightning_fewshot.models.mlt.settings import MatchingSettings
from lightning_fewshot.models.mlt.tracking import MatchTracker
from lightning_fewshot.tracking.crops import CropSettings
from lightning_fewshot.tracking.response import Search

SMALL = MatchingSettings((8, 12, 16, 20), 14)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _images(count, side, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.fixture
def network():
    """A small network in evaluation mode, with statistics and scales that are not those of the start."""
    network = MatchingNetwork(SMALL)
    with torch.no_grad():
        for _ in range(20):
            network.predict(network.adapt(_images(4, 127)), _images(4, 255, 1))
        for norm in (network.stream.norms[-1], network.response.adjust):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    return network.eval()


def test_layers_are_the_papers():
    network = MatchingNetwork()
    shapes = [tuple(c.weight.shape) for c in network.stream.convs]
    assert shapes == [(96, 3, 11, 11), (192, 96, 5, 5), (256, 192, 3, 3), (128, 256, 3, 3), (96, 128, 1, 1)]
    assert [norm.num_features for norm in network.stream.norms] == [96, 192, 256, 128, 96]


@pytest.mark.parametrize("kernels", [None, torch.randn(1, 5, 20, generator=torch.Generator().manual_seed(0))])
def test_what_trackers_run_is_folded_and_answers_the_same(network, kernels):
    """The last layer, whose normalisation the meta-learner's gradient asks for, is left as it is."""
    x, tracker = _images(3, 255, 1), MatchTracker(network, Search(), CropSettings())
    with torch.no_grad():
        state = network.adapt(_images(1, 127))
        state = state if kernels is None else network.with_kernels(state, kernels)
        expected, ours = network.predict(state, x), tracker.predict(state, x)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert tracker.predict.__self__ is not network
    assert all(isinstance(norm, torch.nn.BatchNorm2d) for norm in network.stream.norms)


@pytest.mark.parametrize("kernels", [False, True])
def test_responses_are_17_by_17_and_a_batch_is_each_alone(network, kernels):
    z, x = _images(2, 127), _images(6, 255, 1)
    extra = torch.randn(2, 5, 20)
    with torch.no_grad():
        states = [network.adapt(z), network.adapt(z[:1]), network.adapt(z[1:])]
        if kernels:
            parts = (extra, extra[:1], extra[1:])
            states = [network.with_kernels(s, k) for s, k in zip(states, parts, strict=True)]
        assert states[0].template.shape == (2, 19 if kernels else 14, 8, 8)
        together = network.predict(states[0], x)
        alone = torch.cat([network.predict(states[1], x[:3]), network.predict(states[2], x[3:])])
    assert together.shape == (2, 3, 17, 17)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_the_response_is_the_mean_cosine_of_a_subwindow(network):
    z, x = _images(1, 127), _images(1, 255, 1)
    with torch.no_grad():
        response = network.predict(network.adapt(z), x)[0, 0]
        own = network.adapt(z).template[0].double()
        for row, column in [(0, 0), (8, 8), (3, 16)]:
            window = network.adapt(x[..., 8 * row : 8 * row + 127, 8 * column : 8 * column + 127]).template[0].double()
            cosine = torch.nn.functional.cosine_similarity(own, window, dim=0).mean()
            layer = network.last_layer()
            expected = layer.gain.double() * cosine + layer.offset.double()
            torch.testing.assert_close(response[row, column].double(), expected[0], rtol=1e-3, atol=1e-3)


def test_target_kernels_are_concatenated_to_the_last_layer(network):
    """Eq. (4): [w_N, w_target] as one convolution."""
    hidden, extra = torch.rand(2, 20, 9, 9), torch.randn(1, 6, 20)
    with torch.no_grad():
        ours = network.embed(hidden, extra)
        normed = network.stream.norms[-1](network.stream.convs[-1](hidden))
        expected = normalize(torch.cat((normed, conv2d(hidden, extra[0, :, :, None, None])), 1), dim=1)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_kernels_of_zero_change_nothing(network):
    z, x = _images(1, 127), _images(2, 255, 1)
    with torch.no_grad():
        state = network.adapt(z)
        torch.testing.assert_close(
            network.predict(network.with_kernels(state, torch.zeros(1, 6, 20)), x), network.predict(state, x)
        )


def test_training_and_evaluation_agree_on_the_last_layer(network):
    """Evaluation folds the batch normalisation; with the batch's own statistics in it both are the same."""
    hidden = torch.rand(4, 20, 9, 9)
    network.stream.norms[-1].momentum = None
    network.stream.norms[-1].reset_running_stats()
    with torch.no_grad():
        trained = network.train().embed(hidden)
        biased = hidden.numel() / 20
        network.stream.norms[-1].running_var.mul_((biased - 1) / biased)
        torch.testing.assert_close(network.eval().embed(hidden), trained, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernels", [False, True])
def test_the_exported_pupil_is_static_and_the_same(network, kernels):
    x = _images(2, 255, 1)
    with torch.no_grad():
        state = network.adapt(_images(1, 127))
        state = network.with_kernels(state, torch.randn(1, 6, 20)) if kernels else state
        pupil, expected = StaticMatcher(network, state), network.predict(state, x)[0]
        torch.testing.assert_close(pupil(x), expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(torch.export.export(pupil, (x,)).module()(x), expected, rtol=1e-3, atol=1e-3)


def test_onnx_of_the_pupil_answers_the_same_to_any_number_of_patches(network, tmp_path):
    x = _images(3, 255, 1)
    with torch.no_grad():
        state = network.with_kernels(network.adapt(_images(1, 127)), torch.randn(1, 6, 20))
        expected = network.predict(state, x)[0].numpy()
    batch = {"images": {0: torch.export.Dim("batch")}}
    program = torch.export.export(StaticMatcher(network, state), (x[:2],), dynamic_shapes=batch)
    torch.onnx.export(program, (), str(tmp_path / "pupil.onnx"), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "pupil.onnx"), providers=["CPUExecutionProvider"])
    (responses,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(responses, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda n: MatchingSettings((8, 12, 16)), r"channels is \(8, 12, 16\) but must be 4 numbers"),
        (lambda n: MatchingSettings(kernels=0), "kernels is 0 but must be at least 1"),
        (lambda n: n.adapt(_images(1, 100)), "at least 127 x 127"),
        (lambda n: n.adapt(_images(1, 127)[:, :1]), r"must be \(B, 3, H, W\)"),
        (lambda n: n.predict(n.adapt(_images(2, 127)), _images(3, 255)), "not a whole number"),
        (lambda n: StaticMatcher(n, n.adapt(_images(2, 127))), "holds 2 exemplars but 1 is exported"),
        (
            lambda n: n.predict(n.with_kernels(n.adapt(_images(2, 127)), torch.zeros(2, 4, 20)), _images(3, 255)),
            "3 maps cannot be shared out equally among 2 exemplars",
        ),
    ],
)
def test_bad_input_is_said(network, work, message):
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        work(network)
