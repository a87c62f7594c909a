"""Pruning by the first frame alone (table 3, "no meta-learning")."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Adam

from lightning_fewshot.models.metartt.pruned_module import PrunedMetaRTT
from lightning_fewshot.models.metartt.pruning_loss import episode_loss
from lightning_fewshot.models.metartt.pruning_network import PruningNetwork, pooled_maps
from lightning_fewshot.models.metartt.settings import (
    FirstFrame,
    InnerLoop,
    OnlineAdaptation,
    Perceptrons,
    SimulatedEpisode,
)
from lightning_fewshot.settings import BackboneSettings, Optimization
from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.settings import Batches, CandidateNetworkSettings, TrackerSettings
from lightning_fewshot.tracking.candidates.strategy import View


class FirstFramePrunedMetaRTT(PrunedMetaRTT):
    """Optimise a new pruning network in the first frame of every video; the learned one is not used.

    Args:
        network: Widths and sizes of the network.
        backbone: A pretrained network for the first layers, instead of VGG-M's two convolutions.
        episode: What a simulated episode samples.
        batches: Numbers of samples of a gradient step.
        tracking: Numbers of the tracker.
        inner: Gradient steps with the learned rates.
        online: The online adaptation.
        sparsity: lambda of eq. (9).
        perceptrons: The pruning network.
        first_frame: How it is optimised.
        optimization: Optimiser and learning rate over the run.
        init_from: The meta-trained checkpoint.
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
        first_frame: FirstFrame = FirstFrame(),
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
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
            perceptrons=perceptrons,
            optimization=optimization,
            init_from=init_from,
        )
        self.first_frame = first_frame

    def masks(self, view: View) -> Head:
        """Return the masks after optimising eq. (9) on D_init."""
        with torch.no_grad():
            pooled = pooled_maps(self.network, view)
        with torch.enable_grad():
            psi = PruningNetwork(self.network, self.perceptrons).to(view.scenes.device)
            optimizer = Adam(psi.parameters(), lr=self.first_frame.lr)
            for _ in range(self.first_frame.steps):
                optimizer.zero_grad()
                episode_loss(self.network, psi(pooled), [view], self.sparsity).sum().backward()
                optimizer.step()
        with torch.no_grad():
            return psi.eval()(pooled)

    def adaptation_settings(self) -> dict[str, Any]:
        """Return what tells one tracker's results from another's: here how the masks are found, too."""
        more = {"sparsity": self.sparsity, "perceptrons": self.perceptrons, "first_frame": self.first_frame}
        return {**super().adaptation_settings(), **more}
