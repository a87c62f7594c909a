"""MetaRTT as a LightningModule: meta-learn where adaptation starts and how large its steps are (section 3)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.metartt.base_module import MetaLearnedModule
from lightning_fewshot.models.metartt.channels import Pruned
from lightning_fewshot.models.metartt.rates import Rates
from lightning_fewshot.models.metartt.settings import (
    InnerLoop,
    MetaGradient,
    OnlineAdaptation,
    SimulatedEpisode,
    TestLoss,
)
from lightning_fewshot.models.metartt.simulation import Adapt
from lightning_fewshot.settings import BackboneSettings, Optimization
from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.settings import Batches, CandidateNetworkSettings, TrackerSettings


class MetaRTT(MetaLearnedModule):
    """Meta-learned fast adaptation. An episode holds clips of different videos, by default of six frames.

    Args:
        network: Widths and sizes of the network.
        backbone: A pretrained network for the first layers, instead of VGG-M's two convolutions.
        episode: What a simulated episode samples.
        batches: Numbers of samples of a gradient step.
        tracking: Numbers of the tracker.
        inner: Gradient steps with learned rates, eqs. (2) and (3).
        online: The online adaptation, eq. (3).
        test_loss: The loss on D_test, eqs. (4) to (6).
        meta_gradient: How eq. (8) is computed.
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
        online: OnlineAdaptation = OnlineAdaptation(),
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
        self.online = online
        self.rates_on = Rates(self.network, online.k_on, inner.rates, inner.initial_rate)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the two terms of eq. (7): tested after the initial and after the online adaptation.

        Their gradient in the meta-parameters theta_init^0, A_init and A_on is eq. (8): autograd differentiates through
        every step of :func:`~lightning_fewshot.models.metartt.adaptation.gradient_step`.
        """
        tau = self.simulate(episode)
        initial = self.tested(tau, tau.after_initial)
        online = self.tested(tau, tau.after_online[-1])
        return {"initial": initial, "online": online}  # eq. (7), their sum; autograd of it gives eq. (8)

    def online_steps(self) -> Adapt:
        """Return the steps of eq. (3)."""
        return self.learned_steps(self.rates_on)

    def learned_rates(self) -> dict[str, Rates]:
        """Return A_init and A_on by what their number of steps is called."""
        return {"k_init": self.rates_init, "k_on": self.rates_on}

    def adapt_online(self, initial: Head, head: Head, data: Samples, pruned: Pruned | None) -> Head:
        """Adapt to remembered samples, eq. (3); a pruned network has pruned rates."""
        start = initial if self.online.start == "initial" else head
        if pruned is None:
            return self.tracked_steps(start, self.rates_on.steps(), data)
        return self.tracked_steps(start, list(pruned.rates), data, pruned.scales)

    def adaptation_settings(self) -> dict[str, Any]:
        """Return what tells one tracker's results from another's; the rates are among the weights."""
        return {**super().adaptation_settings(), "online": self.online}
