"""The networks phi (a stream, the pupil) and omega (the learnet) for tracking (Learnet, section 3.3).

Five convolutions "in the same configuration as AlexNet but with stride 2 in the first layer", no padding, batch
normalisation after every one, ReLU after all but the last:

    127 pixels   59 -> pool 29 -> 25 -> pool 12 -> 10 -> 8 -> 6 cells
    255 pixels  123 -> pool 61 -> 57 -> pool 28 -> 26 -> 24 -> 22 cells, so 17 x 17 responses of stride 8

Shapes: B images, P exemplars, K channels of the last layer, D factors, F filter side.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from lightning_fewshot.models.learnet.characters.streams import FILTER_VARIATION
from lightning_fewshot.nn.dynamic import FactorisedConv2d, FactorisedDynamicConv2d

Variant = Literal["A", "B", "C", "S"]
SecondLayer = Literal["plain", "own", "predicted"]
# Filters of each layer. A is AlexNet; B and C have half of it in the first two layers, and a quarter and an eighth in
# the last (section 3.3); S is ours, for the embedded videos on a CPU.
CHANNELS: dict[str, tuple[int, ...]] = {
    "A": (96, 256, 384, 384, 256),
    "B": (48, 128, 384, 384, 64),
    "C": (48, 128, 384, 384, 32),
    "S": (24, 64, 96, 96, 32),
}
KERNELS, STRIDES, GROUPS = (11, 5, 3, 3, 3), (2, 1, 1, 1, 1), (1, 2, 1, 2, 2)  # AlexNet's groups
POOLED = (0, 1)  # layers with a 3 x 3 maximum of stride 2 behind them
STRIDE = 8  # pixels from cell to cell of the last layer
EXEMPLAR = 127  # pixels; omega is fully connected at its end, and takes nothing else
MEAN, SPREAD = 127.5, 63.75  # of pixels in [0, 255]


class TrackingStream(nn.Module):
    """The network phi. Its second convolution may be factorised, and take its filters from outside.

    Args:
        variant: Which of ``CHANNELS``.
        second: "plain", "own" (factorised, filters of its own) or "predicted" (factorised, eq. 8).
    """

    def __init__(self, variant: Variant = "B", second: SecondLayer = "plain") -> None:
        super().__init__()
        channels = (3, *CHANNELS[variant])
        self.predicted = second == "predicted"
        self.convs = nn.ModuleList()
        for i, (c, k) in enumerate(pairwise(channels)):
            if i == 1 and second != "plain":
                self.convs.append((FactorisedDynamicConv2d if self.predicted else FactorisedConv2d)(c, k, KERNELS[i]))
            else:
                self.convs.append(nn.Conv2d(c, k, KERNELS[i], STRIDES[i], groups=GROUPS[i], bias=False))
        self.norms = nn.ModuleList(nn.BatchNorm2d(k) for k in channels[1:])
        initialise(self)

    def forward(self, x: Tensor, filters: Tensor | None = None) -> Tensor:
        """Return ``(B, K, h, w)`` of images ``(B, 3, H, W)``; ``filters`` ``(P, D, F, F)`` where they are predicted."""
        for i in range(len(self.convs) - 1):
            x = self._step(i, x, filters)
        last = len(self.convs) - 1
        return self.norms[last](self._convolve(last, x, filters))

    def first_response(self, x: Tensor, filters: Tensor) -> Tensor:
        """Return what the predicted filters answer to ``x``, before M': ``(B, D, h, w)`` (figure 4)."""
        return self.convs[1].respond(self._step(0, x, None), filters)

    def _step(self, i: int, x: Tensor, filters: Tensor | None) -> Tensor:
        x = relu(self.norms[i](self._convolve(i, x, filters)))
        return max_pool2d(x, 3, 2) if i in POOLED else x

    def _convolve(self, i: int, x: Tensor, filters: Tensor | None) -> Tensor:
        return self.convs[i](x, filters) if i == 1 and self.predicted else self.convs[i](x)


class TrackingLearnet(nn.Module):
    """The network omega: a stream, and a layer with one output for every element of the predicted filters.

    Args:
        filter_shape: (D, F, F) of one exemplar.
        variant: Of the stream.
    """

    def __init__(self, filter_shape: tuple[int, int, int], variant: Variant = "A") -> None:
        super().__init__()
        self.filter_shape = filter_shape
        self.trunk = TrackingStream(variant)
        inputs, outputs = CHANNELS[variant][-1] * map_side(EXEMPLAR) ** 2, math.prod(filter_shape)
        self.head = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)
        nn.init.normal_(self.head.weight, 0, 1 / math.sqrt(inputs))
        spread = 1 / math.prod(filter_shape[1:]) ** 0.5
        nn.init.constant_(self.norm.weight, FILTER_VARIATION * spread)  # what depends on z
        nn.init.normal_(self.norm.bias, 0, spread)  # what is common to all z

    def forward(self, z: Tensor) -> Tensor:
        """Return the filters ``(P, D, F, F)`` for exemplars ``(P, 3, 127, 127)``, normalised as in ``pixels``.

        Raises:
            ValueError: One exemplar alone in training: its filters cannot be normalised over a batch.
        """
        if self.training and len(z) < 2:
            raise ValueError("a training episode has 1 exemplar but must have at least 2: raise batch_size")
        return self.norm(self.head(relu(self.trunk(z)).flatten(1))).unflatten(1, self.filter_shape)


def pixels(images: Tensor, name: str, least: int, like: nn.Module) -> Tensor:
    """Turn images into the numbers that a stream takes, in its precision.

    Args:
        images: ``(B, 3, H, W)`` uint8, or float in [0, 255].
        name: What an error calls them.
        least: Smallest side in pixels.
        like: The stream.

    Raises:
        ValueError: They are no batch of RGB images, or too small.
    """
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < least:
        raise ValueError(f"{name} are {tuple(images.shape)} but must be (B, 3, H, W) of at least {least} x {least}")
    weight = like.convs[0].weight
    return ((images.float() - MEAN) / SPREAD).to(weight.dtype)


def map_side(side: int) -> int:
    """Return the cells of a stream's last layer for images of ``side`` pixels.

    >>> map_side(127), map_side(255)
    (6, 22)
    """
    for i, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
        side = (side - kernel) // stride + 1
        side = (side - 3) // 2 + 1 if i in POOLED else side
    return side


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan_out), "the improved Xavier method" (section 3.3)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
