"""The small network of few-shot papers against its definition."""

import pytest
import torch

from lightning_fewshot.nn.image_encoder import conv4


def _as_defined(network, x):
    """Return the features where every ReLU stands before its pooling, as the papers write it."""
    for block in network[:4]:
        x = torch.max_pool2d(torch.relu(block[1](block[0](x))), 2)
    return x.mean((2, 3))


@pytest.mark.parametrize("training", [True, False])
def test_conv4_is_convolution_normalisation_relu_and_pooling(training):
    """Bit for bit up to the global average, the gradients too, also where maxima tie."""
    torch.manual_seed(0)
    network = conv4(8).double().train(training)
    images = torch.randint(-1, 2, (3, 3, 28, 28)).double()
    images[..., 14:] = 0.5  # equal pixels, so equal maxima
    ours, expected = network(images), _as_defined(network, images)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    leaves, weights = list(network.parameters()), torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), leaves) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_names_of_conv4s_parameters_are_those_of_older_checkpoints():
    kinds = {f"{i}.{j}" for i in range(4) for j in (0, 1)}
    assert {name.rpartition(".")[0] for name in conv4(4).state_dict()} == kinds
