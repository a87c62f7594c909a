"""MetaRTT+Prune as a LightningModule: theta stays fixed, the pruning network learns (section 4)."""

from __future__ import annotations

import torch

from lightning_fewshot.models.metartt.pruned_base import PruningModule
from lightning_fewshot.models.metartt.pruning_network import PruningNetwork, pooled_maps
from lightning_fewshot.models.metartt.settings import InnerLoop, OnlineAdaptation, Perceptrons, SimulatedEpisode
from lightning_fewshot.settings import BackboneSettings, Optimization
from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.settings import Batches, CandidateNetworkSettings, TrackerSettings
from lightning_fewshot.tracking.candidates.strategy import View


class PrunedMetaRTT(PruningModule):
    """Predict from the first frame which channels a video needs, and track with these alone: one-shot, meta-learned.

    Args:
        network: Widths and sizes of the network.
        backbone: A pretrained network for the first layers, instead of VGG-M's two convolutions.
        episode: What a simulated episode samples.
        batches: Numbers of samples of a gradient step.
        tracking: Numbers of the tracker.
        inner: Gradient steps with the learned rates.
        online: The online adaptation.
        sparsity: lambda of eq. (9); where a prune rate is wanted, its first value.
        perceptrons: The pruning network.
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
        perceptrons: Perceptrons = Perceptrons(),
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
        self.perceptrons = perceptrons
        self.psi = PruningNetwork(self.network, perceptrons)

    @torch.no_grad()
    def masks(self, view: View) -> Head:
        """Return the masks that the pruning network predicts."""
        return self.psi.eval()(pooled_maps(self.network, view))
