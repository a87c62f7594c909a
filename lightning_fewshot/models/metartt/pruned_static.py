"""Static pruning (table 3, "no adaptive pruning"): one mask for all videos."""

from __future__ import annotations

from typing import Any

import torch

from lightning_fewshot.models.metartt.pruned_base import PruningModule
from lightning_fewshot.models.metartt.pruning_network import StaticMasks, pooled_maps
from lightning_fewshot.models.metartt.settings import InnerLoop, OnlineAdaptation, SimulatedEpisode
from lightning_fewshot.settings import BackboneSettings, Optimization
from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.settings import Batches, CandidateNetworkSettings, TrackerSettings
from lightning_fewshot.tracking.candidates.strategy import View

# A static mask is a bare vector: Adam moves it by one learning rate a step, and what a network predicts by far more.
LR_FACTOR = 4.0


class StaticPrunedMetaRTT(PruningModule):
    """Learn one mask for all videos, offline.

    Args:
        network: Widths and sizes of the network.
        backbone: A pretrained network for the first layers, instead of VGG-M's two convolutions.
        episode: What a simulated episode samples.
        batches: Numbers of samples of a gradient step.
        tracking: Numbers of the tracker.
        inner: Gradient steps with the learned rates.
        online: The online adaptation.
        sparsity: lambda of eq. (9); where a prune rate is wanted, its first value.
        optimization: Optimiser and learning rate over the run.
        init_from: The meta-trained checkpoint.
        prune_rate: Wanted share of removed parameters, for which lambda is found in training; None: lambda stays.
    """

    def __init__(
        self,
        network: CandidateNetworkSettings = CandidateNetworkSettings(),
        backbone: BackboneSettings | None = None,
        episode: SimulatedEpisode = SimulatedEpisode(),
        batches: Batches = Batches(),
        tracking: TrackerSettings = TrackerSettings(),
        inner: InnerLoop = InnerLoop(),
        online: OnlineAdaptation = OnlineAdaptation(),
        sparsity: float = 0.2,
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
        prune_rate: float | None = None,
    ) -> None:
        super().__init__(
            network=network,
            backbone=backbone,
            episode=episode,
            batches=batches,
            tracking=tracking,
            inner=inner,
            online=online,
            sparsity=sparsity,
            optimization=optimization,
            init_from=init_from,
            prune_rate=prune_rate,
        )
        self.psi = StaticMasks(self.network)

    @torch.no_grad()
    def masks(self, view: View) -> Head:
        """Return the one mask of every layer."""
        return self.psi(pooled_maps(self.network, view))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the mask a learning rate of its own, or it would not reach zero."""
        return [group | {"lr_factor": LR_FACTOR} for group in super().parameter_groups()]
