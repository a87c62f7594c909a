"""The adapted pupil as an ordinary static network: no learnet, no dynamic layer, nothing to adapt."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lightning_fewshot.models.learnet.characters.drawings import ink
from lightning_fewshot.models.learnet.characters.network import LearnetNetwork, PupilState
from lightning_fewshot.models.learnet.characters.streams import Stream
from lightning_fewshot.models.learnet.filters import fixed_convolution
from lightning_fewshot.nn.dynamic import DynamicConv2d, FactorisedConv2d, FactorisedDynamicConv2d


class StaticPupil(nn.Module):
    """phi(x; omega(z)) for one z, as plain convolutions: images ``(B, 1, 28, 28)`` uint8 to scores ``(B,)``.

    Args:
        network: The trained network; it is copied, not changed.
        state: What ``adapt`` returned for one exemplar.

    Raises:
        ValueError: The state holds more than one exemplar.
    """

    def __init__(self, network: LearnetNetwork, state: PupilState) -> None:
        super().__init__()
        if len(state.reference) != 1:
            raise ValueError(f"the state holds {len(state.reference)} exemplars but 1 is exported: state.exemplar(i)")
        self.stream = _static_stream(network.stream, state)
        self.compare = copy.deepcopy(network.compare)
        self.register_buffer("reference", state.reference.detach().clone()[None])  # (1, 1, D)
        self.register_buffer("weights", None if state.weights is None else state.weights.detach().clone()[None])
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Score images ``(B, 1, 28, 28)`` against the exemplar: ``(B,)``."""
        return self.compare(self.stream(ink(images))[None], self.reference, self.weights)[0]


class StaticRecogniser(nn.Module):
    """Drawings to posteriors of N classes, each the mean over the static pupils of its exemplars.

    Args:
        pupils: One for each of P exemplars.
        labels: ``(P,)``, class of each.
    """

    def __init__(self, pupils: Sequence[StaticPupil], labels: Tensor) -> None:
        super().__init__()
        self.pupils = nn.ModuleList(pupils)
        of_class = one_hot(labels).float()  # (P, N)
        self.register_buffer("mean", of_class / of_class.sum(0))

    def forward(self, images: Tensor) -> Tensor:
        """Return posteriors ``(B, N)`` of images ``(B, 1, 28, 28)`` uint8, dark on light."""
        return (torch.stack([pupil(images) for pupil in self.pupils], 1) @ self.mean).softmax(1)


def _static_stream(stream: Stream, state: PupilState) -> Stream:
    static = Stream("plain", batch_norm=False)
    static.norms, static.blocks = copy.deepcopy(stream.norms), copy.deepcopy(stream.blocks)
    static.convs = nn.ModuleList(_static_conv(conv, state) for conv in stream.convs)
    return static


def _static_conv(conv: nn.Module, state: PupilState) -> nn.Conv2d:
    if isinstance(conv, (DynamicConv2d, FactorisedDynamicConv2d)):
        weight, bias = conv.fuse(state.filters[0], None if state.bias is None else state.bias[0])
    elif isinstance(conv, FactorisedConv2d):
        weight, bias = conv.fuse()
    else:
        weight, bias = conv.weight, conv.bias
    return fixed_convolution(weight, bias)
