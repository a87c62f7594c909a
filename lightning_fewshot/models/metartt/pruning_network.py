"""Which channels a video needs: psi predicts a mask for every layer from the first frame (section 4, eq. (12)).

A mask has one number a channel; channels whose number is zero are removed. The paper's masks approximate zero; here a
mask is ``relu(1 + psi)``, which reaches it.

Shapes: P clips, O scenes of each, n samples of a scene, N = O n samples, C_l channels of layer l.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from lightning_fewshot.models.metartt.channels import HIDDEN_LAYERS
from lightning_fewshot.models.metartt.settings import Perceptrons
from lightning_fewshot.tracking.candidates.head import Head, head_maps
from lightning_fewshot.tracking.candidates.network import CandidateNetwork
from lightning_fewshot.tracking.candidates.roi_align import adaptive_roi_align
from lightning_fewshot.tracking.candidates.strategy import View


class PruningNetwork(nn.Module):
    """psi: a two-layer perceptron for every layer of the tracker.

    Args:
        network: The tracker's, for the widths of its layers.
        settings: Width and dropout.
    """

    def __init__(self, network: CandidateNetwork, settings: Perceptrons = Perceptrons()) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict()
        for name, width in layer_widths(network).items():
            last = nn.Linear(settings.hidden, width)
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)
            first = nn.Linear(width, settings.hidden)
            self.mlp[name] = nn.Sequential(first, nn.LeakyReLU(), nn.Dropout(settings.drop), last)

    def forward(self, pooled: Head) -> Head:
        """Return the masks ``(P, C_l)`` from pooled maps ``(P, N, C_l)`` of D_init: the mean over samples of an MLP."""
        return {name: relu(1 + mlp(_standardised(pooled[name])).mean(1)) for name, mlp in self.mlp.items()}


class StaticMasks(nn.Module):
    """One mask for all videos, in place of psi (table 3, "no adaptive pruning")."""

    def __init__(self, network: CandidateNetwork) -> None:
        super().__init__()
        widths = layer_widths(network)
        self.values = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()})

    def forward(self, pooled: Head) -> Head:
        """Return the masks ``(P, C_l)``, the same for every clip."""
        clips = len(next(iter(pooled.values())))
        return {name: relu(1 + value).expand(clips, -1) for name, value in self.values.items()}


def layer_widths(network: CandidateNetwork) -> dict[str, int]:
    """Return the channels of every layer that can be pruned."""
    convolutions = {stage: getattr(network.shared, stage).out_channels for stage in network.shared.stages}
    return convolutions | {name: getattr(network, name).out_features for name in HIDDEN_LAYERS}


def pooled_maps(network: CandidateNetwork, view: View) -> Head:
    """Return AvgPool(F^l(x_i; theta)) of all samples ``(P, O * n, C_l)`` by layer."""
    count = len(view.scenes)
    maps = network.shared.maps(view.scenes.flatten(0, 1))
    boxes = view.boxes.flatten(0, 1)
    pooled = {}
    for stage, values in maps.items():
        samples = adaptive_roi_align(values, network.regions(boxes, stage)).mean((-1, -2))  # (P * O, n, C_l)
        pooled[stage] = samples.view(count, -1, samples.shape[-1])
    features = network.describe(maps["conv3"], boxes).view(count, -1, network.features)
    return pooled | {name: v for name, v in head_maps(view.head, features).items() if name in HIDDEN_LAYERS}


def _standardised(pooled: Tensor) -> Tensor:
    """Divide pooled maps ``(P, N, C)`` by their root mean square: layers differ by orders of magnitude."""
    return pooled / pooled.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-6)
