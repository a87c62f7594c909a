"""One-shot channel pruning (section 4): a network looks at the first frame and says which channels a video needs.

A mask has one number a channel; channels whose number is zero are removed, so that a smaller network tracks.
The paper's masks approximate zero; here a mask is ``relu(1 + psi)``, which reaches it.

Shapes: P clips, N samples of each, C_l channels of layer l, L layers.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from lightning_fewshot.models.metartt.network import LAYERS, Head, Network, SharedNetwork, head_maps
from lightning_fewshot.models.metartt.simulation import Trajectory
from lightning_fewshot.tracking.candidates.roi_align import POOLED, adaptive_roi_align

HIDDEN_LAYERS = LAYERS[:2]  # fc4 and fc5; the two outputs of fc6 cannot be pruned
APPROXIMATED = ("conv3", "fc4", "fc5", "fc6")  # S of eq. (9): the last shared convolution and all later layers


class View(NamedTuple):
    """One data set as eq. (9) needs it: scenes, the samples in them, the head that looks at them.

    Args:
        scenes: ``(P, O, 3, S, S)``.
        boxes: ``(P, O, n, 4)`` in pixels of the scenes.
        head: theta, ``(P, ...)``.
    """

    scenes: Tensor
    boxes: Tensor
    head: Head


class PruningNetwork(nn.Module):
    """psi: a two-layer perceptron for every layer of the tracker.

    Args:
        network: The tracker's, for the widths of its layers.
        hidden: Width of the perceptrons.
        drop: Dropout between their layers.
        static: Learn one mask for all videos instead (table 3, "no adaptive pruning").
    """

    def __init__(self, network: Network, hidden: int = 128, drop: float = 0.5, static: bool = False) -> None:
        super().__init__()
        widths = layer_widths(network)
        self.static = nn.ParameterDict({k: nn.Parameter(torch.zeros(w)) for k, w in widths.items()}) if static else None
        self.mlp = nn.ModuleDict()
        for name, width in {} if static else widths.items():
            last = nn.Linear(hidden, width)
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)
            self.mlp[name] = nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(), nn.Dropout(drop), last)

    def forward(self, pooled: Head) -> Head:
        """Return the masks ``(P, C_l)`` from pooled maps ``(P, N, C_l)`` of D_init: the mean over samples of an MLP."""
        if self.static is not None:
            clips = len(next(iter(pooled.values())))
            return {name: relu(1 + value).expand(clips, -1) for name, value in self.static.items()}
        return {name: relu(1 + mlp(_standardised(pooled[name])).mean(1)) for name, mlp in self.mlp.items()}


def layer_widths(network: Network) -> dict[str, int]:
    """Return the channels of every layer that can be pruned."""
    convolutions = {stage: getattr(network.shared, stage).out_channels for stage in network.shared.stages}
    return convolutions | {name: getattr(network, name).out_features for name in HIDDEN_LAYERS}


def pooled_maps(network: Network, view: View) -> Head:
    """Return AvgPool(F^l(x_i; theta)) of all samples ``(P, O * n, C_l)`` by layer."""
    count = len(view.scenes)
    maps = network.shared.maps(view.scenes.flatten(0, 1))
    boxes = view.boxes.flatten(0, 1)
    found = {}
    for stage, values in maps.items():
        samples = adaptive_roi_align(values, network.regions(boxes, stage)).mean((-1, -2))  # (P * O, n, C_l)
        found[stage] = samples.view(count, -1, samples.shape[-1])
    features = network.describe(maps["conv3"], boxes).view(count, -1, network.features)
    return found | {name: v for name, v in head_maps(view.head, features).items() if name in HIDDEN_LAYERS}


def sample_maps(network: Network, view: View, masks: Head | None = None) -> Head:
    """Return F^l or, with masks ``(P, C_l)``, F^l_B of every layer in S, ``(P, O * n, .)`` by name: eq. (10)."""
    features = _describe(network, view.scenes, view.boxes, masks)
    return {"conv3": features, **head_maps(view.head, features, masks)}


def lasso_loss(masks: Head, full: Head, pruned: Head, sparsity: float) -> Tensor:
    """Return eq. (9) of each clip, ``(P,)``.

    Args:
        masks: beta^l, ``(P, C_l)`` by layer.
        full: F^l of the layers in S, ``(P, N, .)`` by layer.
        pruned: F^l_B of the same.
        sparsity: lambda.
    """
    size = torch.stack([mask.abs().sum(1) for mask in masks.values()]).sum(0)
    errors = [(full[name] - pruned[name]).square().sum(-1).add(1e-12).sqrt().mean(1) for name in APPROXIMATED]
    return sparsity * size + torch.stack(errors).sum(0)  # eq. (9)


def episode_loss(network: Network, masks: Head, views: Sequence[View], sparsity: float) -> Tensor:
    """Return eq. (11) of each clip ``(P,)``: the sum of eq. (9) over data sets and the heads that look at them."""
    losses = []
    for view in views:
        with torch.no_grad():
            full = sample_maps(network, view)
        losses.append(lasso_loss(masks, full, sample_maps(network, view, masks), sparsity))
    return torch.stack(losses).sum(0)


def online_loss(
    network: Network, masks: Head, scenes: Tensor, boxes: Tensor, heads: list[Head], sparsity: float
) -> Tensor:
    """Return the middle sum of eq. (11), over theta_on^1 to theta_on^K on D_on; the shared maps are computed once."""
    with torch.no_grad():
        full = _describe(network, scenes, boxes)
    pruned = _describe(network, scenes, boxes, masks)
    losses = []
    for head in heads:
        with torch.no_grad():
            wanted = {"conv3": full, **head_maps(head, full)}
        losses.append(lasso_loss(masks, wanted, {"conv3": pruned, **head_maps(head, pruned, masks)}, sparsity))
    return torch.stack(losses).sum(0)


def trajectory_loss(network: Network, masks: Head, tau: Trajectory, sparsity: float) -> Tensor:
    """Return eq. (11) over an episode trajectory, ``(P,)``: D_init, D_on after every step, D_test."""
    scenes, (first, online, test) = tau.clips.scenes, tau.boxes
    ends = [
        View(scenes[:, :1], first[:, None], tau.after_initial),
        View(scenes[:, -1:], test[:, None], tau.after_online[-1]),
    ]
    if tau.hard is not None:  # D_test holds targets of other videos too: here those of the next clip
        centre = _centre_box(network).expand(len(scenes), 1, 1, 4)
        ends.append(View(scenes[:, -1:].roll(1, 0), centre, tau.after_online[-1]))
    loss = online_loss(network, masks, scenes[:, 1:-1], online, tau.after_online, sparsity)
    terms = [episode_loss(network, masks, [view], sparsity) for view in ends[:2]]
    if tau.hard is not None:
        share = 1 / (1 + test.shape[1])  # the expectation runs over all of D_test
        terms[1] = (1 - share) * terms[1] + share * episode_loss(network, masks, ends[2:], sparsity)
    return loss + torch.stack(terms).sum(0)  # eq. (11)


class Pruned(NamedTuple):
    """A network without the channels that its masks remove, for one video.

    Args:
        network: The smaller network; its own head is not used.
        keep: Which channels of the whole network each layer keeps, bool ``(C_l,)`` by layer.
        scales: What remains of the masks of fc4 and fc5, ``(1, C)`` by layer; the convolutions contain theirs.
        rate: Share of the parameters that was removed.
        rates: Learning rates of the online adaptation, cut down once.
    """

    network: Network
    keep: Head
    scales: Head
    rate: float
    rates: tuple[Head, ...] = ()

    def cut(self, head: Head) -> Head:
        """Cut parameters, or their learning rates, ``(P, ...)`` of the whole head down to what is kept."""
        inputs = {"fc4": self.keep["conv3"].repeat_interleave(POOLED * POOLED), "fc5": self.keep["fc4"]}
        inputs["fc6"] = self.keep["fc5"]
        found = {}
        for name, value in head.items():
            layer = name.partition(".")[0]
            if value[0].numel() == 1:
                found[name] = value  # one rate for all
                continue
            if layer in self.keep:
                value = value[:, self.keep[layer]]
            found[name] = (value[:, :, inputs[layer]] if name.endswith("weight") else value).contiguous()
        return found


def remove_channels(network: Network, masks: Head) -> Pruned:
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
    before = sum(p.numel() for p in network.shared.parameters()) + sum(p.numel() for p in network.head().values())
    head = pruned.cut(network.head())
    after = sum(p.numel() for p in small.shared.parameters()) + sum(p.numel() for p in head.values())
    return pruned._replace(rate=1 - after / before)


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
        conv = nn.Conv2d(
            weight.shape[1],
            weight.shape[0],
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            device="meta",
        )
        conv.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        conv.bias = nn.Parameter((layer.bias * masks[stage])[kept], requires_grad=False)
        setattr(small, stage, conv)
        inputs = kept
    return small


def _describe(network: Network, scenes: Tensor, boxes: Tensor, masks: Head | None = None) -> Tensor:
    """Return the features ``(P, O * n, F)`` of samples ``(P, O, n, 4)``, with masks ``(P, C_l)`` after every layer."""
    count, frames = scenes.shape[:2]
    each = None if masks is None else {k: v.repeat_interleave(frames, 0) for k, v in masks.items()}
    maps = network.shared(scenes.flatten(0, 1), each)
    return network.describe(maps, boxes.flatten(0, 1)).view(count, -1, network.features)


def _centre_box(network: Network) -> Tensor:
    """Return where the target stands in its own scene."""
    low = (network.scene_size - network.target_pixels) / 2
    return torch.tensor([low, low, low + network.target_pixels, low + network.target_pixels]).to(network.fc4.weight)


def _standardised(pooled: Tensor) -> Tensor:
    """Divide pooled maps ``(P, N, C)`` by their root mean square: layers differ by orders of magnitude."""
    return pooled / pooled.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-6)


def _at_least_one(name: str, mask: Tensor) -> Tensor:
    if bool((mask > 0).any()):
        return mask
    warnings.warn(f"the mask of {name} removes all {len(mask)} channels; the best one is kept", stacklevel=3)
    best = torch.zeros_like(mask)
    best[mask.argmax()] = 1
    return best
