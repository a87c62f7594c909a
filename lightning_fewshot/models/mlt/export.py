"""The adapted matching network as an ordinary static network: no meta-learner, nothing to adapt."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize

from lightning_fewshot.models.mlt.network import MatchingNetwork, MatchState


class StaticMatcher(nn.Module):
    """f_w_adapt(x, .) for one x: patches ``(N, 3, 255, 255)`` uint8 to responses ``(N, 17, 17)``.

    Args:
        network: The trained network; it is copied, not changed.
        state: Of one exemplar, with target-specific kernels or without.

    Raises:
        ValueError: The state holds more than one exemplar.
    """

    adapted = ("weight", "shift", "template")  # names of the tensors that are the exemplar's

    def __init__(self, network: MatchingNetwork, state: MatchState) -> None:
        super().__init__()
        if len(state.template) != 1:
            raise ValueError(f"the state holds {len(state.template)} exemplars but 1 is exported")
        layer = network.last_layer()
        weight, shift = layer.scale[:, None] * layer.weight, layer.shift
        if state.kernels is not None:
            weight = torch.cat((weight, state.kernels[0].float()))
            shift = torch.cat((shift, shift.new_zeros(len(state.kernels[0]))))
        self.network = copy.deepcopy(network)
        cells = state.template.shape[2] * state.template.shape[3]
        self.register_buffer("weight", weight.detach().clone()[..., None, None])  # (K + E, C, 1, 1)
        self.register_buffer("shift", shift.detach().clone())
        self.register_buffer("template", (state.template / cells * layer.gain).detach().clone())
        self.register_buffer("offset", layer.offset.detach().clone())
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Match patches ``(N, 3, H, W)`` with the exemplar: ``(N, H', W')``."""
        maps = normalize(conv2d(self.network.hidden(images), self.weight, self.shift), dim=1)
        return conv2d(maps, self.template, self.offset)[:, 0]
