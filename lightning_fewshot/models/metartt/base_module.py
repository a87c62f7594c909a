"""What MetaRTT and the baseline for Meta-Tracker share: a meta-learned initial adaptation, in simulated episodes."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.metartt.adaptation import adapt
from lightning_fewshot.models.metartt.loss import test_loss
from lightning_fewshot.models.metartt.rates import Rates
from lightning_fewshot.models.metartt.settings import InnerLoop, MetaGradient, SimulatedEpisode, TestLoss
from lightning_fewshot.models.metartt.simulation import Adapt, Trajectory, simulate
from lightning_fewshot.settings import BackboneSettings, Optimization
from lightning_fewshot.tracking.candidates.head import Head, score
from lightning_fewshot.tracking.candidates.module import CandidateModule
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.scenes import clips_of
from lightning_fewshot.tracking.candidates.settings import Batches, CandidateNetworkSettings, TrackerSettings


class MetaLearnedModule(CandidateModule):
    """Meta-learn theta_init^0 and A_init; a subclass says how the tracker adapts online.

    Args:
        network: Widths and sizes of the network.
        backbone: A pretrained network for the first layers, instead of VGG-M's two convolutions.
        episode: What a simulated episode samples.
        batches: Numbers of samples of a gradient step.
        tracking: Numbers of the tracker.
        inner: Gradient steps with learned rates.
        test_loss: The loss on D_test.
        meta_gradient: How its gradient is computed.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint to start training from, as far as names and shapes agree.
    """

    def __init__(
        self,
        network: CandidateNetworkSettings,
        backbone: BackboneSettings | None,
        episode: SimulatedEpisode,
        batches: Batches,
        tracking: TrackerSettings,
        inner: InnerLoop,
        test_loss: TestLoss,
        meta_gradient: MetaGradient,
        optimization: Optimization,
        init_from: str | None,
    ) -> None:
        super().__init__(
            network=network,
            backbone=backbone,
            episode=episode,
            batches=batches,
            tracking=tracking,
            optimization=optimization,
            init_from=init_from,
        )
        self.inner = inner
        self.test_loss = test_loss
        self.meta_gradient = meta_gradient
        self.rates_init = Rates(self.network, inner.k_init, inner.rates, inner.initial_rate)

    @abstractmethod
    def online_steps(self) -> Adapt:
        """Return how a simulated episode adapts online: from a head and D_on to the heads after every step."""

    def learned_rates(self) -> dict[str, Rates]:
        """Return the learning rates by what their number of steps is called."""
        return {"k_init": self.rates_init}

    def simulate(self, episode: Episode) -> Trajectory:
        """Return the trajectory of a training episode."""
        return simulate(
            network=self.network,
            clips=clips_of(self.network, episode),
            settings=self.episode_settings,
            search=self.tracking,
            generator=torch.default_generator,
            adapt_initial=self.learned_steps(self.rates_init),
            adapt_online=self.online_steps(),
        )

    def tested(self, tau: Trajectory, head: Head) -> Tensor:
        """Return eq. (4) of an adapted head, the mean over clips."""
        hard = None if tau.hard is None else score(head, tau.hard)
        logits = score(head, tau.test.joined())
        return test_loss(logits, tau.test.positives.shape[1], hard, self.test_loss).mean()

    def adapt_first(self, head: Head, data: Samples) -> Head:
        """Adapt to the first frame, eq. (2)."""
        return self.tracked_steps(head, self.rates_init.steps(), data)

    def learned_steps(self, rates: Rates) -> Adapt:
        """Return gradient steps that keep how they depend on the meta-parameters, for eq. (8)."""
        return partial(
            _adapt,
            rates,
            batches=self.batches,
            generator=torch.default_generator,
            clip=self.inner.clip,
            first_order=self.meta_gradient.first_order,
            recompute=self.meta_gradient.recompute,
        )

    @torch.no_grad()
    def tracked_steps(self, head: Head, rates: list[Head], data: Samples, masks: Head | None = None) -> Head:
        """Adapt in tracking, without keeping how the head depends on the meta-parameters."""
        return adapt(
            head,
            rates,
            data,
            batches=self.batches,
            generator=torch.default_generator,
            masks=masks,
            clip=self.inner.clip,
        )[-1]

    def adaptation_settings(self) -> dict[str, Any]:
        """Return what tells one tracker's results from another's; the rates are among the weights."""
        return {"inner": self.inner}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the learned rates a learning rate of their own."""
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        rates = [p for name, p in trained.items() if name.startswith("rates_")]
        groups = [{"params": [p for name, p in trained.items() if not name.startswith("rates_")]}]
        factor = self.meta_gradient.rates_lr_factor
        return groups + ([{"params": rates, "lr_factor": factor, "weight_decay": 0.0}] if rates else [])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that was meta-trained with other numbers of steps, and say so.

        Raises:
            ValueError: Names both numbers.
        """
        for name, rates in self.learned_rates().items():
            prefix = f"{name.replace('k', 'rates', 1)}.logs."
            saved = [value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)]
            steps = next((len(value) for value in saved if value.ndim and len(value) != rates.count), rates.count)
            if steps != rates.count and self.inner.rates == "vector":
                raise ValueError(
                    f"{name} is {rates.count} but the checkpoint was meta-trained with {name} {steps}: "
                    "its rates belong to that many steps"
                )
        super().on_load_checkpoint(checkpoint)

    def on_validation_epoch_end(self) -> None:
        """Draw the learned rates and a simulated episode beside the other pictures."""
        super().on_validation_epoch_end()
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            self._draw_learning(Path(self.trainer.default_root_dir) / "pictures")

    def _draw_learning(self, folder: Path) -> None:
        from lightning_fewshot.drawing import write_png
        from lightning_fewshot.models.metartt.visualization import draw_rates, draw_simulation

        data = self.trainer.datamodule
        folder.mkdir(parents=True, exist_ok=True)
        if self.inner.rates == "vector":
            write_png(draw_rates(self.learned_rates()), folder / "rates.png")
        if self.trainer.state.fn == "fit" and data is not None:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                episode = data.episode("train", 0)
                write_png(draw_simulation(episode, self.simulate(episode)), folder / "simulated.png")


def _adapt(rates: Rates, head: Head, data: Samples, **options: Any) -> list[Head]:
    return adapt(head, rates.steps(), data, **options)
