"""What pruning costs: the channels that stay, and how far the masked maps are from the whole ones (section 4).

Shapes: P clips, O scenes of each, n samples of a scene, N = O n samples, C_l channels of layer l.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_fewshot.models.metartt.simulation import Trajectory
from lightning_fewshot.tracking.candidates.head import Head, head_maps
from lightning_fewshot.tracking.candidates.network import CandidateNetwork
from lightning_fewshot.tracking.candidates.strategy import View

APPROXIMATED = ("conv3", "fc4", "fc5", "fc6")  # S of eq. (9): the last shared convolution and all later layers


def sample_maps(network: CandidateNetwork, view: View, masks: Head | None = None) -> Head:
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


def episode_loss(network: CandidateNetwork, masks: Head, views: Sequence[View], sparsity: float) -> Tensor:
    """Return eq. (11) of each clip ``(P,)``: the sum of eq. (9) over data sets and the heads that look at them."""
    losses = []
    for view in views:
        with torch.no_grad():
            full = sample_maps(network, view)
        losses.append(lasso_loss(masks, full, sample_maps(network, view, masks), sparsity))
    return torch.stack(losses).sum(0)


def online_loss(network: CandidateNetwork, masks: Head, tau: Trajectory, sparsity: float) -> Tensor:
    """Return the middle sum of eq. (11), over theta_on^1 to theta_on^K on D_on; the shared maps are computed once."""
    scenes, boxes = tau.clips.scenes[:, 1:-1], tau.boxes[1]
    with torch.no_grad():
        full = _describe(network, scenes, boxes)
    pruned = _describe(network, scenes, boxes, masks)
    losses = []
    for head in tau.after_online:
        with torch.no_grad():
            wanted = {"conv3": full, **head_maps(head, full)}
        losses.append(lasso_loss(masks, wanted, {"conv3": pruned, **head_maps(head, pruned, masks)}, sparsity))
    return torch.stack(losses).sum(0)


def trajectory_loss(network: CandidateNetwork, masks: Head, tau: Trajectory, sparsity: float) -> Tensor:
    """Return eq. (11) over an episode trajectory, ``(P,)``: D_init, D_on after every step, D_test."""
    initial = View(tau.clips.scenes[:, :1], tau.boxes[0][:, None], tau.after_initial)
    online = online_loss(network, masks, tau, sparsity)
    terms = [episode_loss(network, masks, [initial], sparsity), _tested_loss(network, masks, tau, sparsity)]
    return online + torch.stack(terms).sum(0)  # eq. (11)


def _tested_loss(network: CandidateNetwork, masks: Head, tau: Trajectory, sparsity: float) -> Tensor:
    """Return the last term of eq. (11), on D_test, which holds targets of other videos too: of the next clip here."""
    scenes, boxes, head = tau.clips.scenes[:, -1:], tau.boxes[2], tau.after_online[-1]
    loss = episode_loss(network, masks, [View(scenes, boxes[:, None], head)], sparsity)
    if tau.hard is None:
        return loss
    centre = _centre_box(network).expand(len(scenes), 1, 1, 4)
    other = episode_loss(network, masks, [View(scenes.roll(1, 0), centre, head)], sparsity)
    share = 1 / (1 + boxes.shape[1])  # the expectation runs over all of D_test
    return (1 - share) * loss + share * other


def _describe(network: CandidateNetwork, scenes: Tensor, boxes: Tensor, masks: Head | None = None) -> Tensor:
    """Return the features ``(P, O * n, F)`` of samples ``(P, O, n, 4)``, with masks ``(P, C_l)`` after every layer."""
    count, frames = scenes.shape[:2]
    each = None if masks is None else {k: v.repeat_interleave(frames, 0) for k, v in masks.items()}
    maps = network.shared(scenes.flatten(0, 1), each)
    return network.describe(maps, boxes.flatten(0, 1)).view(count, -1, network.features)


def _centre_box(network: CandidateNetwork) -> Tensor:
    """Return where the target stands in its own scene."""
    low = (network.scene_size - network.target_pixels) / 2
    high = low + network.target_pixels
    return torch.tensor([low, low, high, high]).to(network.fc4.weight, non_blocking=True)
