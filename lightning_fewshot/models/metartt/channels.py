"""Removing channels: the smaller network of one video, and its head and rates cut to it (section 4).

A channel whose mask is zero is removed. A mask that stays is multiplied into the convolutions; in fc4 and fc5 it stays
a factor, so that adapting the smaller head is adapting the masked one.

Shapes: P clips, C_l channels of layer l.
"""

from __future__ import annotations

import copy
import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_fewshot.tracking.candidates.head import LAYERS, Head
from lightning_fewshot.tracking.candidates.network import CandidateNetwork, SharedNetwork
from lightning_fewshot.tracking.candidates.roi_align import POOLED

HIDDEN_LAYERS = LAYERS[:2]  # fc4 and fc5; the two outputs of fc6 cannot be pruned


class Pruned(NamedTuple):
    """A network without the channels that its masks remove, for one video.

    Args:
        network: The smaller network; its own head is not used.
        keep: Which channels of the whole network each layer keeps, bool ``(C_l,)`` by layer.
        scales: What remains of the masks of fc4 and fc5, ``(1, C)`` by layer; the convolutions contain theirs.
        rate: Share of the parameters that was removed.
        rates: Learning rates of the online adaptation, cut down once.
    """

    network: CandidateNetwork
    keep: Head
    scales: Head
    rate: float
    rates: tuple[Head, ...] = ()

    def cut(self, head: Head) -> Head:
        """Cut parameters, or their learning rates, ``(P, ...)`` of the whole head down to what is kept."""
        inputs = {"fc4": self.keep["conv3"].repeat_interleave(POOLED * POOLED), "fc5": self.keep["fc4"]}
        inputs["fc6"] = self.keep["fc5"]
        cut = {}
        for name, value in head.items():
            layer = name.partition(".")[0]
            if value[0].numel() == 1:
                cut[name] = value  # one rate for all
                continue
            if layer in self.keep:
                value = value[:, self.keep[layer]]
            cut[name] = (value[:, :, inputs[layer]] if name.endswith("weight") else value).contiguous()
        return cut


def remove_channels(network: CandidateNetwork, masks: Head) -> Pruned:
    """Build the smaller network.

    Args:
        network: Theta; not changed.
        masks: ``(1, C_l)`` by layer, not negative. A layer whose mask is all zero keeps its best channel, and says so.
    """
    masks = {name: _at_least_one(name, mask[0].detach()) for name, mask in masks.items()}
    keep = {name: mask > 0 for name, mask in masks.items()}
    small = copy.copy(network)
    small._modules = dict(network._modules)
    small.shared = _smaller(network.shared, masks, keep)
    small.features = small.shared.out_channels * POOLED * POOLED
    scales = {name: masks[name][keep[name]][None] for name in HIDDEN_LAYERS}
    pruned = Pruned(small, keep, scales, 0.0)
    before = _parameters(network.shared, network.head())
    after = _parameters(small.shared, pruned.cut(network.head()))
    return pruned._replace(rate=1 - after / before)


def _parameters(shared: SharedNetwork, head: Head) -> int:
    return sum(p.numel() for p in shared.parameters()) + sum(p.numel() for p in head.values())


@torch.no_grad()
def _smaller(shared: SharedNetwork, masks: Head, keep: Head) -> SharedNetwork:
    """Return the convolutions without masked channels; a mask that stays is multiplied into weight and bias.

    ``beta * relu(conv(x)) = relu(beta * conv(x))`` for beta > 0.
    """
    small = copy.copy(shared)
    small._modules = dict(shared._modules)
    inputs = None
    for stage in shared.stages:
        layer, kept = getattr(shared, stage), keep[stage]
        weight = (layer.weight * masks[stage][:, None, None, None])[kept]
        weight = weight if inputs is None else weight[:, inputs]
        setattr(small, stage, _convolution(layer, weight, (layer.bias * masks[stage])[kept]))
        inputs = kept
    return small


def _convolution(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Return a fixed convolution like ``layer`` with other parameters."""
    conv = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        device="meta",
    )
    conv.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
    return conv


def _at_least_one(name: str, mask: Tensor) -> Tensor:
    if bool((mask > 0).any()):
        return mask
    warnings.warn(f"the mask of {name} removes all {len(mask)} channels; the best one is kept", stacklevel=3)
    best = torch.zeros_like(mask)
    best[mask.argmax()] = 1
    return best
