"""The matching network of MLT, section 3.2.1, and its target-specific last layer, eq. (4).

    127 pixels   59 -> pool 29 -> 25 -> pool 12 -> 10 -> 8 -> 8 cells
    255 pixels  123 -> pool 61 -> 57 -> pool 28 -> 26 -> 24 -> 24 cells, so 17 x 17 responses of stride 8

Four convolutions end in *hidden* maps; the fifth, 1x1, is the last layer ``w_N`` that target-specific kernels are
concatenated to. Its output is normalised at every location, and correlated.

Shapes: P exemplars, R patches of each, C hidden channels, K kernels of the last layer, E target-specific kernels,
(h, w) an exemplar's map, (H, W) a patch's, (H', W') the response.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, normalize, relu

from lightning_fewshot.nn.correlation import cross_correlation

CHANNELS = (96, 192, 256, 128)  # of the first four layers (section 3.2.1)
KERNELS, TARGET_KERNELS = 96, 32  # of the fifth; of the meta-learner (sections 3.2.1, 3.2.2)
SIZES, STRIDES = (11, 5, 3, 3), (2, 1, 1, 1)  # stride 2 makes the response 17 x 17
POOLED = (0, 1)  # layers with a 3 x 3 maximum of stride 2 behind them
STRIDE = 8  # pixels from cell to cell
EXEMPLAR = 127  # pixels
MEAN, SPREAD = 127.5, 63.75  # of pixels in [0, 255]


class MatchState(NamedTuple):
    """What P exemplars fix.

    Args:
        hidden: ``(P, C, h, w)`` what the last layer sees of the exemplars.
        template: ``(P, K + E, h, w)`` normalised features to correlate with; ``(P, K, h, w)`` without target kernels.
        kernels: ``(P, E, C)`` target-specific kernels, w_target of eq. (3), or None.
    """

    hidden: Tensor
    template: Tensor
    kernels: Tensor | None = None


class LastLayer(NamedTuple):
    """The last layer with its batch normalisation, and the response's, as numbers: ``norm(scale * W u + shift)``.

    Args:
        weight: ``(K, C)`` w_N.
        scale: ``(K,)``.
        shift: ``(K,)``.
        gain: Of the mean cosine.
        offset: Of the response.
    """

    weight: Tensor
    scale: Tensor
    shift: Tensor
    gain: Tensor
    offset: Tensor


class MatchingNetwork(nn.Module):
    """phi of section 3.2.1: convolutions, feature normalisation, cross-correlation.

    Args:
        channels: Of the first four layers; less than the paper's for a CPU.
        kernels: K of the fifth; 128 is the baseline "MLT w/o meta" (section 4.2.1).
        channels_last: Store maps pixel by pixel, which convolves faster on most machines.

    Raises:
        ValueError: There are not four numbers of channels.
    """

    def __init__(
        self, channels: tuple[int, ...] = CHANNELS, kernels: int = KERNELS, channels_last: bool = True
    ) -> None:
        super().__init__()
        if len(channels) != len(SIZES):
            raise ValueError(f"channels is {tuple(channels)} but must be {len(SIZES)} numbers, of the first layers")
        widths = (3, *channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(c, k, size, stride, bias=False)
            for (c, k), size, stride in zip(pairwise(widths), SIZES, STRIDES, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(k) for k in channels)
        self.last = nn.Conv2d(channels[-1], kernels, 1, bias=False)
        self.last_norm = nn.BatchNorm2d(kernels)
        self.adjust = nn.BatchNorm2d(1)  # of the response, a mean cosine far smaller than a logit
        for conv in (*self.convs, self.last):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def adapt(self, exemplars: Tensor) -> MatchState:
        """Return the state of exemplars ``(P, 3, 127, 127)``, uint8 or float in [0, 255]; no target kernels yet."""
        hidden = self.hidden(exemplars)
        return MatchState(hidden, self.embed(hidden))

    def with_kernels(self, state: MatchState, kernels: Tensor) -> MatchState:
        """Return the state with the target-specific kernels ``(P, E, C)`` in place, w_adapt of eq. (4)."""
        return MatchState(state.hidden, self.embed(state.hidden, kernels), kernels)

    def predict(self, state: MatchState, images: Tensor) -> Tensor:
        """Return responses ``(P, R, 17, 17)`` to patches ``(P * R, 3, 255, 255)``, patch ``p * R + r`` of exemplar p.

        Raises:
            ValueError: P * R is not a multiple of P, or a patch is smaller than an exemplar.
        """
        return self.match(state, self.hidden(images))

    def match(self, state: MatchState, hidden: Tensor) -> Tensor:
        """Return responses ``(P, R, H', W')`` float32 to hidden maps ``(P * R, C, H, W)``, eq. (1) or (4)."""
        maps = self.embed(hidden, state.kernels)
        with torch.autocast(hidden.device.type, enabled=False):  # peaks in bfloat16 would tie
            cells = state.template.shape[2] * state.template.shape[3]
            cosines = cross_correlation(state.template, maps) / cells
            flat = cosines.flatten(0, 1).unsqueeze(1).to(self.adjust.weight.dtype)
            return self.adjust(flat).float().view_as(cosines)

    def hidden(self, images: Tensor) -> Tensor:
        """Return what the last layer sees of images ``(B, 3, H, W)``, uint8 or float in [0, 255].

        Raises:
            ValueError: They are no batch of RGB images, or smaller than an exemplar.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < EXEMPLAR:
            shape = tuple(images.shape)
            raise ValueError(f"images are {shape} but must be (B, 3, H, W) of at least {EXEMPLAR} x {EXEMPLAR}")
        x = ((images.float() - MEAN) / SPREAD).to(self.last.weight.dtype).contiguous(memory_format=self.memory_format)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = relu(norm(conv(x)))
            x = max_pool2d(x, 3, 2) if i in POOLED else x
        return x

    def embed(self, hidden: Tensor, kernels: Tensor | None = None) -> Tensor:
        """Apply the last layer, with the kernels of each exemplar beside its own, and normalise every location.

        Args:
            hidden: ``(P * R, C, H, W)``.
            kernels: ``(P, E, C)`` or None. There is no batch normalisation of theirs: their size is the meta-learner's.

        Returns:
            ``(P * R, K + E, H, W)`` float32, of length 1 over channels.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            if self.training:
                own = self.last_norm(self.last(hidden.to(self.last.weight.dtype))).float()
            else:
                layer = self.last_layer()
                own = conv2d(hidden.float(), (layer.scale[:, None] * layer.weight)[..., None, None], layer.shift)
            if kernels is not None:
                own = torch.cat((own, _each_own(hidden.float(), kernels.float())), dim=1)
            return normalize(own, dim=1)

    def last_layer(self) -> LastLayer:
        """Return the last layer as in evaluation, float32."""
        (scale, shift), (gain, offset) = _affine(self.last_norm), _affine(self.adjust)
        return LastLayer(self.last.weight[..., 0, 0].float(), scale, shift, gain, offset)


def _each_own(hidden: Tensor, kernels: Tensor) -> Tensor:
    """Apply 1x1 kernels ``(P, E, C)`` to the maps ``(P * R, C, H, W)`` of their exemplar: ``(P * R, E, H, W)``."""
    if len(kernels) == 1:
        return conv2d(hidden, kernels[0, ..., None, None])
    if len(hidden) % len(kernels):
        raise ValueError(f"{len(hidden)} maps cannot be shared out equally among {len(kernels)} exemplars")
    flat = hidden.flatten(2).unflatten(0, (len(kernels), -1))  # (P, R, C, H * W)
    return (kernels.unsqueeze(1) @ flat).flatten(0, 1).unflatten(2, hidden.shape[2:])


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a batch normalisation in evaluation."""
    scale = norm.weight.float() * (norm.running_var.float() + norm.eps).rsqrt()
    return scale, norm.bias.float() - norm.running_mean.float() * scale
