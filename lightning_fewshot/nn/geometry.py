"""Where the cells of a feature map lie in the image, and what they see of it: derived from the network, not tabulated.

A pixel i covers [i, i + 1). Through a chain of convolutions and poolings a cell's centre, the distance of two cells and
the receptive field follow layer by layer (:func:`chained`); any other network is probed with one impulse response
(:func:`measured`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

PROBES = 2  # random images of an impulse response: a ReLU or a maximum hides pixels, but not in all of them


class Geometry(NamedTuple):
    """The cells of a feature map, in pixels of the image; the same along both axes.

    Args:
        stride: From cell to cell.
        offset: From the image's border to the centre of the first cell.
        field: Side of the receptive field.
    """

    stride: float = 1.0
    offset: float = 0.5
    field: float = 1.0

    def through(self, layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> Geometry:
        """Return the geometry behind one more layer.

        >>> Geometry().through(nn.Conv2d(3, 1, 7, stride=2))
        Geometry(stride=2.0, offset=3.5, field=7.0)
        """
        kernel, stride, padding, dilation = (_side(getattr(layer, name, 1)) for name in _NAMES)
        reach = dilation * (kernel - 1)  # cells from the first tap to the last
        return Geometry(
            self.stride * stride,
            self.offset + (reach / 2 - padding) * self.stride,
            self.field + reach * self.stride,
        )


_NAMES = ("kernel_size", "stride", "padding", "dilation")


def chained(layers: Iterable[nn.Module], start: Geometry = Geometry()) -> Geometry:
    """Return the geometry behind a chain of layers; those that are neither convolution nor pooling change nothing.

    >>> chained([nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)])
    Geometry(stride=2.0, offset=1.0, field=4.0)
    """
    geometry = start
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            geometry = geometry.through(layer)
    return geometry


def measured(
    network: nn.Module, size: int, output: Callable[[nn.Module, Tensor], Tensor] = lambda f, x: f(x)
) -> Geometry:
    """Measure the geometry of a network by the gradient of two neighbouring cells in the middle of its map.

    A copy of the network is probed, in double precision, so that a pixel out of sight has a gradient of exactly zero,
    and with random weights, so that none is hidden by a branch whose weights are still zero. Where the field is as
    large as the image (a network that pools over all of it), cells lie where the gradient is centred, to half a pixel.

    Args:
        network: Of images ``(N, 3, size, size)``.
        size: Pixels of the image: padding of some networks depends on it.
        output: From the network and images to its map ``(N, C, h, w)``; the network's first output.

    Raises:
        ValueError: The map has fewer than two cells a side.
    """
    generator = torch.Generator().manual_seed(0)
    probe = _random(copy.deepcopy(network).double().cpu().eval(), generator)
    images = torch.rand(PROBES, 3, size, size, generator=generator, dtype=torch.float64).requires_grad_()
    with torch.enable_grad():
        rows = output(probe, images).sum((0, 1))
    if len(rows) < 2:
        raise ValueError(f"an image of {size} pixels gives a map of {len(rows)} cells but must give at least 2")
    middle = len(rows) // 2
    first, second = (_seen(rows[k, middle], images) for k in (middle - 1, middle))
    stride = second[0] - first[0]
    return Geometry(stride, second[0] - middle * stride, second[1])


@torch.no_grad()
def _random(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Give every layer random weights that keep the size of what it sees, in place."""
    for p in network.requires_grad_(False).parameters():
        if p.ndim > 1:
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * (2 / p[0].numel()) ** 0.5)
        else:
            p.copy_(torch.rand(p.shape, generator=generator, dtype=p.dtype))
    return network


def _seen(cell: Tensor, images: Tensor) -> tuple[float, float]:
    """Return centre and extent, in rows of the image, of what one cell sees."""
    (gradient,) = torch.autograd.grad(cell, images, retain_graph=True)
    energy = gradient.square().sum((0, 1, 3))
    rows = energy.nonzero()[:, 0]
    low, high = int(rows[0]), int(rows[-1]) + 1
    centre = (low + high) / 2
    if low == 0 and high == len(energy):
        energy = (energy - energy.median()).clamp(min=0).square()
        places = torch.arange(len(energy), dtype=energy.dtype) + 0.5
        centre = round(2 * float((energy * places).sum() / energy.sum())) / 2
    return centre, float(high - low)


def _side(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]
