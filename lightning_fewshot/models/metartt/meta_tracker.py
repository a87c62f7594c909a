"""The baseline for Meta-Tracker (table 1; Park and Berg 2018): only the initial adaptation is meta-learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.metartt.base_module import MetaLearnedModule
from lightning_fewshot.models.metartt.settings import InnerLoop, MetaGradient, OnlineSGD, SimulatedEpisode, TestLoss
from lightning_fewshot.models.metartt.simulation import Adapt
from lightning_fewshot.settings import BackboneSettings, Optimization
from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.settings import Batches, CandidateNetworkSettings, TrackerSettings
from lightning_fewshot.tracking.candidates.sgd import adapt_sgd
from lightning_fewshot.tracking.candidates.strategy import SmallerNetwork


class MetaTrackerBaseline(MetaLearnedModule):
    """Meta-learn the initial adaptation; update online as RT-MDNet does, by SGD with momentum.

    Args:
        network: Widths and sizes of the network.
        backbone: A pretrained network for the first layers, instead of VGG-M's two convolutions.
        episode: What a simulated episode samples; of D_on nothing is learned.
        batches: Numbers of samples of a gradient step.
        tracking: Numbers of the tracker.
        inner: Gradient steps with learned rates, eq. (2).
        online_sgd: The online updates.
        test_loss: The loss on D_test, eqs. (4) to (6).
        meta_gradient: How its gradient is computed.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint to start training from, as far as names and shapes agree.
    """

    def __init__(
        self,
        network: CandidateNetworkSettings = CandidateNetworkSettings(),
        backbone: BackboneSettings | None = None,
        episode: SimulatedEpisode = SimulatedEpisode(),
        batches: Batches = Batches(),
        tracking: TrackerSettings = TrackerSettings(),
        inner: InnerLoop = InnerLoop(),
        online_sgd: OnlineSGD = OnlineSGD(),
        test_loss: TestLoss = TestLoss(),
        meta_gradient: MetaGradient = MetaGradient(),
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
            test_loss=test_loss,
            meta_gradient=meta_gradient,
            optimization=optimization,
            init_from=init_from,
        )
        self.online_sgd = online_sgd

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the first term of eq. (7): tested after the initial adaptation alone."""
        tau = self.simulate(episode)
        return {"initial": self.tested(tau, tau.after_initial)}

    def online_steps(self) -> Adapt:
        """Return that a simulated episode does not adapt online."""
        return lambda head, data: [head]

    def adapt_online(self, initial: Head, head: Head, data: Samples, pruned: SmallerNetwork | None) -> Head:
        """Adapt the present head to remembered samples."""
        return adapt_sgd(
            head,
            data,
            batches=self.batches,
            generator=torch.default_generator,
            steps=self.online_sgd.k_on,
            lr=self.online_sgd.lr,
            drop=0.0,
        )

    def adaptation_settings(self) -> dict[str, Any]:
        """Return what tells one tracker's results from another's; the rates are among the weights."""
        return {**super().adaptation_settings(), "online_sgd": self.online_sgd}
