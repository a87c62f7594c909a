"""The adapted pupil of a tracker as an ordinary static network: no learnet, no dynamic layer, nothing to adapt."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn.functional import conv2d

from lightning_fewshot.models.learnet.filters import fixed_convolution
from lightning_fewshot.models.learnet.tracking.network import TemplateState, TrackingNetwork
from lightning_fewshot.nn.dynamic import FactorisedConv2d, FactorisedDynamicConv2d


class StaticTrackingPupil(nn.Module):
    """phi(x; omega(z)) correlated with z's template, for one z: ``(N, 3, 255, 255)`` to responses ``(N, 17, 17)``.

    Args:
        network: The trained network; it is copied, not changed.
        state: What ``adapt`` returned for one exemplar.

    Raises:
        ValueError: The state holds more than one exemplar.
    """

    adapted: tuple[str, ...]  # names of the tensors that are the exemplar's

    def __init__(self, network: TrackingNetwork, state: TemplateState) -> None:
        super().__init__()
        if len(state.template) != 1:
            raise ValueError(f"the state holds {len(state.template)} exemplars but 1 is exported")
        self.stream = copy.deepcopy(network.stream)
        self.adapted = ("template",)
        second = self.stream.convs[1]
        if isinstance(second, FactorisedDynamicConv2d):
            self.stream.convs[1] = fixed_convolution(*second.fuse(state.filters[0]), second.groups)
            self.stream.predicted = False
            self.adapted += tuple(f"stream.convs.1.{name}" for name, _ in self.stream.convs[1].named_parameters())
        elif isinstance(second, FactorisedConv2d):
            self.stream.convs[1] = fixed_convolution(*second.fuse(), second.groups)
        self.adjust = copy.deepcopy(network.response.adjust)
        self.register_buffer("template", state.template.detach().clone())  # (1, K, h, w)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Match search patches ``(N, 3, H, W)`` with the exemplar: ``(N, H', W')``."""
        maps = self.stream(self.stream.pixels(images))
        return self.adjust(conv2d(maps, self.template))[:, 0]
