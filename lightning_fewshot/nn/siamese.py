"""What siamese trackers share: a stream of convolutions, and the correlation of two of its maps as a logit.

Learnet (section 3.3) and MLT (section 3.2.1) both have AlexNet's five convolutions "but with stride 2 in the first
layer", without padding, as SiamFC does (Bertinetto et al. 2016, "Fully-convolutional siamese networks", section 2.3):

    conv, norm, ReLU, max 3/2   twice;   conv, norm, ReLU   twice;   conv, norm

    side of the last kernel 3: 127 pixels -> 6 x 6 cells, 255 pixels -> 22 x 22; of 1: 8 x 8 and 24 x 24

Two cells of the last layer are 8 pixels apart, so that 127 and 255 pixels have responses of 17 x 17.

Shapes: B images, P exemplars, R search patches of each, K channels of the last layer, D factors, F filter side,
(h, w) the template, (H', W') the response.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightning_fewshot.nn.correlation import cross_correlation
from lightning_fewshot.nn.dynamic import FactorisedConv2d, FactorisedDynamicConv2d
from lightning_fewshot.precision import full_precision

Network = TypeVar("Network", bound=nn.Module)
SecondLayer = Literal["plain", "learned", "predicted"]
KERNELS, STRIDES = (11, 5, 3, 3, 3), (2, 1, 1, 1, 1)  # AlexNet's; the first stride is 2 in both papers
POOLED = (0, 1)  # layers with a 3 x 3 maximum of stride 2 behind them
MEAN, SPREAD = 127.5, 63.75  # of pixels in [0, 255]
RESPONSE_LR = 10.0  # of the response's scale and offset, as a multiple of the learning rate


class SiameseStream(nn.Module):
    """phi: five convolutions, each normalised, ReLU after all but the last. The second may be factorised.

    Args:
        channels: Outputs of each layer.
        kernels: Sides of the filters of each layer.
        groups: Groups of each layer; of both projections where it is factorised.
        second: Second layer: "plain", "learned" (factorised, its filters are parameters) or "predicted" (factorised,
            its filters are an input: eq. 8 of Learnet).

    Raises:
        ValueError: There are not five numbers of channels.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        kernels: tuple[int, ...] = KERNELS,
        groups: tuple[int, ...] = (1, 1, 1, 1, 1),
        second: SecondLayer = "plain",
    ) -> None:
        super().__init__()
        if len(channels) != len(STRIDES):
            raise ValueError(f"channels is {tuple(channels)} but must be {len(STRIDES)} numbers, of the layers")
        self.kernels = tuple(kernels)
        self.predicted = second == "predicted"
        self.convs = nn.ModuleList()
        for i, (c, k) in enumerate(pairwise((3, *channels))):
            if i == 1 and second != "plain":
                factorised = FactorisedDynamicConv2d if self.predicted else FactorisedConv2d
                self.convs.append(factorised(c, k, kernels[i], groups=groups[i]))
            else:
                self.convs.append(nn.Conv2d(c, k, kernels[i], STRIDES[i], groups=groups[i], bias=False))
        self.norms = nn.ModuleList(nn.BatchNorm2d(k) for k in channels)
        initialise(self)

    @property
    def stride(self) -> int:
        """Pixels from cell to cell of the last layer."""
        return math.prod(STRIDES) * 2 ** len(POOLED)

    def map_side(self, side: int) -> int:
        """Return the cells of the last layer for images of ``side`` pixels.

        >>> SiameseStream((1, 1, 1, 1, 1)).map_side(127)
        6
        """
        for i, (kernel, stride) in enumerate(zip(self.kernels, STRIDES, strict=True)):
            side = (side - kernel) // stride + 1
            side = (side - 3) // 2 + 1 if i in POOLED else side
        return side

    def forward(self, x: Tensor, filters: Tensor | None = None) -> Tensor:
        """Return the last layer ``(B, K, h, w)``.

        Args:
            x: ``(B, 3, H, W)`` from :meth:`pixels`.
            filters: ``(P, D, F, F)`` of the second layer, where they are predicted.
        """
        return self.norms[-1](self.convs[-1](self.hidden(x, filters)))

    def hidden(self, x: Tensor, filters: Tensor | None = None) -> Tensor:
        """Return what the last layer sees, ``(B, C, h', w')``; arguments as of :meth:`forward`."""
        for i in range(len(self.convs) - 1):
            x = self._layer(i, x, filters)
        return x

    def second_response(self, x: Tensor, filters: Tensor) -> Tensor:
        """Return what predicted filters answer to ``x``, before M': ``(B, D, h, w)`` (Learnet, figure 4)."""
        return self.convs[1].respond(self._layer(0, x), filters)

    def folded(self) -> SiameseStream:
        """Return one like this, for evaluation alone, with the hidden layers' normalisations in their convolutions."""
        stream = _like(self)
        hidden = list(zip(self.convs, self.norms, strict=True))[:-1]
        stream.convs = nn.ModuleList((*(_with_norm(conv, norm) for conv, norm in hidden), self.convs[-1]))
        stream.norms = nn.ModuleList((*(nn.Identity() for _ in hidden), self.norms[-1]))
        return stream

    def pixels(self, images: Tensor, least: int = 1, name: str = "images") -> Tensor:
        """Turn images ``(B, 3, H, W)``, uint8 or float in [0, 255], into what the stream takes, in its precision.

        Maps are stored pixel by pixel (channels_last), which convolves faster.

        Args:
            images: ``(B, 3, H, W)``.
            least: Smallest side in pixels.
            name: What an error calls them.

        Raises:
            ValueError: They are no batch of RGB images, or too small.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < least:
            raise ValueError(f"{name} are {tuple(images.shape)} but must be (B, 3, H, W) of at least {least} x {least}")
        x = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
        return x.sub_(MEAN).div_(SPREAD).to(self.convs[0].weight.dtype)

    def _layer(self, i: int, x: Tensor, filters: Tensor | None = None) -> Tensor:
        x = self.convs[i](x, filters) if i == 1 and self.predicted else self.convs[i](x)
        x = self.norms[i](x)
        return relu(max_pool2d(x, 3, 2) if i in POOLED else x, inplace=True)  # commutes: a quarter of the elements


class ResponseLayer(nn.Module):
    """Correlate maps with the template of their exemplar, then scale and shift to a logit.

    The scale and offset are a batch normalisation of one channel: the correlation is a linear layer too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.adjust = nn.BatchNorm2d(1)

    def forward(self, template: Tensor, maps: Tensor) -> Tensor:
        """Return responses ``(P, R, H', W')`` float32; peaks in bfloat16 would tie.

        Args:
            template: ``(P, K, h, w)``.
            maps: ``(P * R, K, H, W)``, exemplar by exemplar.
        """
        with full_precision(maps.device):
            responses = cross_correlation(template.float(), maps.float())  # (P, R, H', W')
            flat = responses.flatten(0, 1).unsqueeze(1).to(self.adjust.weight.dtype)
            return self.adjust(flat).float().view_as(responses)


def folded(network: Network) -> Network:
    """Return a network like this one with its stream folded; where it is in training, this one itself.

    Nothing but the stream is copied, and the network is not changed.
    """
    if network.training:
        return network
    like = _like(network)
    like.stream = network.stream.folded()
    return like


def split_parameters(module: nn.Module, part: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trained parameters of ``module`` without those of ``part``, and those of ``part``."""
    inside = [p for p in part.parameters() if p.requires_grad]
    rest = [p for p in module.parameters() if p.requires_grad and not any(p is q for q in inside)]
    return rest, inside


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan_out), "the improved Xavier method" (Learnet, section 3.3)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _like(module: nn.Module) -> nn.Module:
    """Return a module with the same parts, each of which can be replaced without a change of this one."""
    like = copy.copy(module)
    like._modules = dict(module._modules)
    return like


def _with_norm(conv: nn.Module, norm: nn.BatchNorm2d) -> nn.Module:
    """Return a convolution with the normalisation behind it; of a factorised one, its last projection takes it."""
    if isinstance(conv, FactorisedConv2d):
        conv = _like(conv)
        conv.layer = _with_norm(conv.layer, norm)
    elif isinstance(conv, FactorisedDynamicConv2d):
        conv = _like(conv)
        conv.back = fuse_conv_bn_eval(conv.back, norm)
    else:
        conv = fuse_conv_bn_eval(conv, norm)
    return conv
