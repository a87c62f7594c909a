"""The networks phi (a stream, the pupil) and omega (the learnet) of section 3.2.

Shapes: B images, P exemplars, D = 512 features, F filter side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, max_pool2d, relu

from lightning_fewshot.models.learnet.filters import FILTER_VARIATION
from lightning_fewshot.nn.dynamic import DynamicConv2d, FactorisedConv2d, FactorisedDynamicConv2d

CHANNELS, KERNELS = (1, 16, 64, 512), (5, 5, 4)  # section 3.2


class Stream(nn.Module):
    """The network phi. One of its convolutions may take its filters from outside.

    Args:
        kind: What stands at ``layer``: "plain", "learned" (factorised, filters are parameters), "factorised" or
            "naive" (predicted).
        layer: Index of that convolution.
        batch_norm: Normalise after every convolution but the last.
        residual: Residual blocks behind each of the first two convolutions.
    """

    def __init__(self, kind: str = "plain", layer: int = 1, batch_norm: bool = True, residual: int = 0) -> None:
        super().__init__()
        self.dynamic = layer if kind in ("factorised", "naive") else None
        sizes = list(zip(CHANNELS[:-1], CHANNELS[1:], KERNELS, strict=True))
        self.convs = nn.ModuleList(_conv(kind if i == layer else "plain", *size) for i, size in enumerate(sizes))
        self.norms = nn.ModuleList(_norm(size[1], batch_norm) for size in sizes[:-1])
        blocks = ([ResidualBlock(size[1], batch_norm) for _ in range(residual)] for size in sizes[:-1])
        self.blocks = nn.ModuleList(nn.Sequential(*each) for each in blocks)
        self.convs[:-1].to(memory_format=torch.channels_last)  # 1.4 times the speed on a CPU; the last is a matrix
        self.blocks.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, filters: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Return features ``(B, D)`` of ``x`` ``(B, 1, 28, 28)``."""
        for i, norm in enumerate(self.norms):
            x = self.blocks[i](relu(max_pool2d(norm(self._convolve(i, x, filters, bias)), 2)))
        return self._convolve(len(self.norms), x, filters, bias).flatten(1)

    def first_response(self, x: Tensor, filters: Tensor) -> Tensor:
        """Return what the predicted filters answer to ``x``, before M': ``(B, factors, H, W)`` (figure 3)."""
        for i in range(self.dynamic):
            x = self.blocks[i](relu(max_pool2d(self.norms[i](self.convs[i](x)), 2)))
        layer = self.convs[self.dynamic]
        return layer.respond(x, filters) if hasattr(layer, "respond") else layer(x, filters)

    def _convolve(self, i: int, x: Tensor, filters: Tensor | None, bias: Tensor | None) -> Tensor:
        if i == self.dynamic:
            return self.convs[i](x, filters, bias)
        return _convolve_whole(self.convs[i], x) if i == len(self.norms) else self.convs[i](x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity (He et al., 2016, figure 2). Not in the paper.

    Args:
        channels: Of input and output.
        batch_norm: Normalise after both convolutions.
    """

    def __init__(self, channels: int, batch_norm: bool = True) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(_norm(channels, batch_norm) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the shape of ``x``, ``(B, C, H, W)``."""
        inner = relu(self.norms[0](self.convs[0](x)))
        return relu(x + self.norms[1](self.convs[1](inner)))


class Learnet(nn.Module):
    """The network omega: the layers of phi, but its last convolution has one output for every predicted number.

    Args:
        filter_shape: Shape of one exemplar's predicted filters; ``(64, 5, 5)`` gives the paper's 1600 outputs.
        outputs: Further outputs by name, with their number; 0 leaves one out.
        batch_norm: Normalise between the layers, and every predicted filter element over the batch.
        init_std: As for the whole network.
    """

    def __init__(
        self, filter_shape: tuple[int, ...], outputs: dict[str, int], batch_norm: bool, init_std: float | None
    ) -> None:
        super().__init__()
        self.filter_shape = filter_shape
        self.sizes = {"filters": math.prod(filter_shape), **{name: n for name, n in outputs.items() if n}}
        self.trunk = Stream(batch_norm=batch_norm)
        self.trunk.convs[-1] = nn.Conv2d(CHANNELS[-2], sum(self.sizes.values()), KERNELS[-1])
        self.norm = nn.BatchNorm1d(self.sizes["filters"]) if batch_norm else nn.Identity()
        initialise(self, init_std)
        self._start_near_common_filters()

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """Return every predicted part of ``z`` ``(P, 1, 28, 28)`` by name: ``(P, size)``, filters in their shape."""
        parts = dict(zip(self.sizes, self.trunk(z).split(list(self.sizes.values()), 1), strict=True))
        parts["filters"] = self.norm(parts["filters"]).unflatten(1, self.filter_shape)
        return parts

    @torch.no_grad()
    def _start_near_common_filters(self) -> None:
        """Start from one random filter bank for all exemplars, and vary around it; a l1 weight starts near 1."""
        fan_in = math.prod(self.filter_shape[1:])  # of one output channel
        spread = 1 / math.sqrt(fan_in)
        last, n = self.trunk.convs[-1], self.sizes["filters"]
        variation = FILTER_VARIATION * spread
        if isinstance(self.norm, nn.BatchNorm1d):
            self.norm.weight.fill_(variation)
            self.norm.bias.normal_(0, spread)
        else:
            last.weight[:n] *= variation
            last.bias[:n].normal_(0, spread)
        for name, first, size in _ranges(self.sizes):
            if name in ("weights", "bias"):
                last.weight[first : first + size] *= 0.1
                last.bias[first : first + size] = float(name == "weights")


def initialise(module: nn.Module, std: float | None) -> None:
    """Draw the weights of all convolutions from a Gaussian: ``std``, or sqrt(2 / fan_in) where it is None."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, 0, math.sqrt(2 / fan_in) if std is None else std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _convolve_whole(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution; where its window is the whole input, as one matrix product, twice as quick on a CPU."""
    if not isinstance(conv, nn.Conv2d) or x.shape[-2:] != conv.weight.shape[-2:]:
        return conv(x)
    return linear(x.flatten(1), conv.weight.flatten(1), conv.bias)


def _conv(kind: str, in_channels: int, out_channels: int, kernel: int) -> nn.Module:
    if kind == "plain":
        return nn.Conv2d(in_channels, out_channels, kernel)
    if kind == "naive":
        return DynamicConv2d(in_channels, out_channels, kernel)
    layer = FactorisedConv2d if kind == "learned" else FactorisedDynamicConv2d
    return layer(in_channels, out_channels, kernel, factors=out_channels)


def _norm(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def _ranges(sizes: dict[str, int]) -> list[tuple[str, int, int]]:
    starts = [sum(list(sizes.values())[:i]) for i in range(len(sizes))]
    return list(zip(sizes, starts, sizes.values(), strict=True))
