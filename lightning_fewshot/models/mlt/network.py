"""The matching network of MLT, section 3.2.1, and its target-specific last layer, eq. (4).

The stream is :class:`~lightning_fewshot.nn.siamese.SiameseStream`: 127 pixels give 8 x 8 cells, 255 pixels 24 x 24, so
17 x 17 responses. Four convolutions end in *hidden* maps; the fifth, 1x1, is the last layer ``w_N`` that
target-specific kernels are concatenated to. Its output is normalised at every location, and correlated.

Shapes: P exemplars, R patches of each, C hidden channels, K kernels of the last layer, E target-specific kernels,
(h, w) an exemplar's map, (H, W) a patch's, (H', W') the response.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize

from lightning_fewshot.models.mlt.settings import MatchingSettings
from lightning_fewshot.nn.siamese import ResponseLayer, SiameseStream
from lightning_fewshot.precision import full_precision
from lightning_fewshot.tracking.crops import EXEMPLAR

KERNEL_SIZES = (11, 5, 3, 3, 1)  # section 3.2.1


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
        settings: Its sizes.
        exemplar: Side of an exemplar, in pixels; no image may be smaller.
    """

    def __init__(self, settings: MatchingSettings = MatchingSettings(), exemplar: int = EXEMPLAR) -> None:
        super().__init__()
        self.exemplar = exemplar
        self.stream = SiameseStream((*settings.channels, settings.kernels), KERNEL_SIZES)
        self.response = ResponseLayer()  # of a mean cosine, which is far smaller than a logit
        self.to(memory_format=torch.channels_last)

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
        cells = state.template.shape[2] * state.template.shape[3]
        return self.response(state.template / cells, self.embed(hidden, state.kernels))

    def hidden(self, images: Tensor) -> Tensor:
        """Return what the last layer sees of images ``(B, 3, H, W)``, uint8 or float in [0, 255].

        Raises:
            ValueError: They are no batch of RGB images, or smaller than an exemplar.
        """
        return self.stream.hidden(self.stream.pixels(images, least=self.exemplar))

    def embed(self, hidden: Tensor, kernels: Tensor | None = None) -> Tensor:
        """Apply the last layer, with the kernels of each exemplar beside its own, and normalise every location.

        Args:
            hidden: ``(P * R, C, H, W)``.
            kernels: ``(P, E, C)`` or None. There is no batch normalisation of theirs: their size is the meta-learner's.

        Returns:
            ``(P * R, K + E, H, W)`` float32, of length 1 over channels.
        """
        with full_precision(hidden.device):
            if self.training:
                conv, norm = self.stream.convs[-1], self.stream.norms[-1]
                common = norm(conv(hidden.to(conv.weight.dtype))).float()
            else:
                layer = self.last_layer()
                common = conv2d(hidden.float(), (layer.scale[:, None] * layer.weight)[..., None, None], layer.shift)
            if kernels is not None:
                common = torch.cat((common, _by_exemplar(hidden.float(), kernels.float())), dim=1)
            return normalize(common, dim=1)

    def last_layer(self) -> LastLayer:
        """Return the last layer as in evaluation, float32."""
        (scale, shift), (gain, offset) = _affine(self.stream.norms[-1]), _affine(self.response.adjust)
        return LastLayer(self.stream.convs[-1].weight[..., 0, 0].float(), scale, shift, gain, offset)


def _by_exemplar(hidden: Tensor, kernels: Tensor) -> Tensor:
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
