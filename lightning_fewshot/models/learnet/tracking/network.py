"""Siamese networks and the siamese learnet for tracking (Learnet, sections 3.1 and 3.3, table 2).

    siamese_shared      template = phi(z)        response = phi(x) * template
    siamese_unshared    template = phi'(z)       response = phi(x) * template
    siamese_factorised  as shared, the second convolution is M' * w *_d M with a w that is learned
    siamese_learnet     w = omega(z), template = phi(z; w)            response = phi(x; w) * template

``*`` is the cross-correlation of figure 1's Gamma, "the comparison layer made convolutional".

Shapes: P exemplars, R search patches of each, K channels, (h, w) the template, (H', W') the response.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from lightning_fewshot.models.learnet.tracking.omega import CHANNELS, GROUPS, TrackingLearnet, Variant
from lightning_fewshot.nn.siamese import ResponseLayer, SiameseStream
from lightning_fewshot.tracking.crops import EXEMPLAR

TrackingArchitecture = Literal["siamese_shared", "siamese_unshared", "siamese_factorised", "siamese_learnet"]
SECOND = {"siamese_factorised": "learned", "siamese_learnet": "predicted"}  # layer of the stream; else plain


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
        learnet: Size of omega; None: phi's.
        exemplar: Side of an exemplar, in pixels.

    Raises:
        ValueError: An option that is not among the ones named here, or a learnet where there is none.
    """

    def __init__(
        self,
        architecture: TrackingArchitecture = "siamese_learnet",
        stream: Variant = "B",
        learnet: Variant | None = None,
        exemplar: int = EXEMPLAR,
    ) -> None:
        super().__init__()
        _check(architecture, stream, learnet)
        self.architecture = architecture
        self.exemplar = exemplar
        self.stream = SiameseStream(CHANNELS[stream], groups=GROUPS, second=SECOND.get(architecture, "plain"))
        unshared = architecture == "siamese_unshared"
        self.other = SiameseStream(CHANNELS[stream], groups=GROUPS) if unshared else None
        self.learnet = None
        if architecture == "siamese_learnet":
            self.learnet = TrackingLearnet(self.stream.convs[1].weight_shape, learnet or stream, exemplar)
        self.response = ResponseLayer()
        self.to(memory_format=torch.channels_last)

    def adapt(self, exemplars: Tensor) -> TemplateState:
        """Turn exemplars ``(P, 3, 127, 127)``, uint8 or float in [0, 255], into the state of P pupils.

        Raises:
            ValueError: They have another shape.
        """
        if exemplars.shape[2:] != (self.exemplar, self.exemplar):
            raise ValueError(
                f"exemplars are {tuple(exemplars.shape)} but must be (P, 3, {self.exemplar}, {self.exemplar}): "
                f"set data.exemplar to {self.exemplar}"
            )
        z = self.stream.pixels(exemplars, name="exemplars")
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
        x = self.stream.pixels(images, least=self.exemplar, name="search patches")
        return self.response(state.template, self.stream(x, state.filters))


def _check(architecture: str, stream: str, learnet: str | None) -> None:
    choices = {"architecture": get_args(TrackingArchitecture), "stream": (*CHANNELS,), "learnet": (None, *CHANNELS)}
    for (name, allowed), value in zip(choices.items(), (architecture, stream, learnet), strict=True):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r} but must be one of {', '.join(map(str, allowed))}")
    if learnet is not None and architecture != "siamese_learnet":
        raise ValueError(f"learnet is {learnet!r} but architecture {architecture!r} predicts nothing")
