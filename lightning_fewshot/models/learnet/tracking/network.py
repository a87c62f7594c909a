"""Siamese networks and the siamese learnet for tracking (Learnet, sections 3.1 and 3.3, table 2).

    siamese_shared      template = phi(z)        response = phi(x) * template
    siamese_unshared    template = phi'(z)       response = phi(x) * template
    siamese_factorised  as shared, the second convolution is M' * w *_d M with a w of its own
    siamese_learnet     w = omega(z), template = phi(z; w)            response = phi(x; w) * template

``*`` is the cross-correlation of figure 1's Gamma, "the comparison layer made convolutional".

Shapes: P exemplars, R search patches of each, K channels, (h, w) the template, (H', W') the response.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from lightning_fewshot.models.learnet.tracking.streams import (
    CHANNELS,
    EXEMPLAR,
    TrackingLearnet,
    TrackingStream,
    Variant,
    pixels,
)
from lightning_fewshot.nn.correlation import cross_correlation

TrackingArchitecture = Literal["siamese_shared", "siamese_unshared", "siamese_factorised", "siamese_learnet"]


class TemplateState(NamedTuple):
    """What an exemplar fixes.

    Args:
        template: ``(P, K, h, w)`` what the pupil's maps are correlated with.
        filters: ``(P, D, F, F)`` predicted filters, or None.
    """

    template: Tensor
    filters: Tensor | None


class TrackingNetwork(nn.Module):
    """One row of table 2.

    Args:
        architecture: See the module's table.
        stream: Size of phi: "A", "B" or "C" of the paper, "S" for a CPU.
        learnet: Size of omega.
        channels_last: Store maps pixel by pixel, which convolves faster on most machines.

    Raises:
        ValueError: An option that is not among the ones named here.
    """

    def __init__(
        self,
        architecture: TrackingArchitecture = "siamese_learnet",
        stream: Variant = "B",
        learnet: Variant = "A",
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        choices = {"architecture": get_args(TrackingArchitecture), "stream": CHANNELS, "learnet": CHANNELS}
        for (name, allowed), value in zip(choices.items(), (architecture, stream, learnet), strict=True):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r} but must be one of {', '.join(allowed)}")
        dynamic = architecture == "siamese_learnet"
        second = "predicted" if dynamic else "own" if architecture == "siamese_factorised" else "plain"
        self.architecture = architecture
        self.stream = TrackingStream(stream, second)
        self.other = TrackingStream(stream) if architecture == "siamese_unshared" else None
        self.learnet = TrackingLearnet(self.stream.convs[1].weight_shape, learnet) if dynamic else None
        self.adjust = nn.BatchNorm2d(1)  # of responses: the correlation is a linear layer too
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def adapt(self, exemplars: Tensor) -> TemplateState:
        """Turn exemplars ``(P, 3, 127, 127)``, uint8 or float in [0, 255], into the state of P pupils.

        Raises:
            ValueError: They have another shape.
        """
        if exemplars.shape[2:] != (EXEMPLAR, EXEMPLAR):
            raise ValueError(
                f"exemplars are {tuple(exemplars.shape)} but must be (P, 3, {EXEMPLAR}, {EXEMPLAR}): "
                f"set data.exemplar to {EXEMPLAR}"
            )
        z = self._pixels(exemplars, "exemplars", EXEMPLAR)
        filters = None if self.learnet is None else self.learnet(z)
        return TemplateState((self.other or self.stream)(z, filters), filters)

    def predict(self, state: TemplateState, images: Tensor) -> Tensor:
        """Search for the exemplars; the learnet is not run.

        Args:
            state: P exemplars.
            images: ``(P * R, 3, 255, 255)`` uint8 or float in [0, 255], or of another size; image ``p * R + r`` is
                the r-th of exemplar p.

        Returns:
            ``(P, R, 17, 17)`` float32; more is more alike, 0 the boundary of the logistic loss.

        Raises:
            ValueError: P * R is not a multiple of P, or an image is smaller than an exemplar.
        """
        maps = self.stream(self._pixels(images, "search patches", EXEMPLAR), state.filters)
        with torch.autocast(maps.device.type, enabled=False):  # peaks in bfloat16 would tie
            responses = cross_correlation(state.template.float(), maps.float())  # (P, R, H', W')
            flat = responses.flatten(0, 1).unsqueeze(1).to(self.adjust.weight.dtype)
            return self.adjust(flat).float().view_as(responses)

    def _pixels(self, images: Tensor, name: str, least: int) -> Tensor:
        return pixels(images, name, least, self.stream).contiguous(memory_format=self.memory_format)
