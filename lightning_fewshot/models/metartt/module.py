"""MetaRTT as a LightningModule: meta-learn where adaptation starts and how large its steps are (section 3)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.metartt.adaptation import Samples, adapt, adapt_sgd
from lightning_fewshot.models.metartt.base_module import CandidateModule
from lightning_fewshot.models.metartt.loss import test_loss
from lightning_fewshot.models.metartt.network import Head, Network, score
from lightning_fewshot.models.metartt.pruning import Pruned
from lightning_fewshot.models.metartt.simulation import Trajectory, clips_of, simulate

RateKind = Literal["vector", "scalar", "fixed"]


class MetaRTT(CandidateModule):
    """Meta-learned fast adaptation. An episode holds clips of different videos, by default of six frames.

    Args:
        k_init: Gradient steps of the initial adaptation.
        k_on: Gradient steps of an online adaptation.
        rates: "vector": one learned rate for every parameter and step; "scalar": one learned rate for each adaptation;
            "fixed": that rate is not learned (table 1, "scalar lr").
        initial_rate: Where learned rates start.
        rates_lr_factor: Learning rate of the learned rates, as a multiple of that of the weights.
        estimated_targets: Adapt online to estimated targets; else to the truth (table 1, row 3).
        hard_examples: Test on targets of other videos too (table 1, row 4).
        online: "meta"; or "sgd": only the initial adaptation is learned, and updates are RT-MDNet's (the baseline for
            Meta-Tracker in table 1, whose ``k_on`` is 15).
        online_lr: Learning rate of "sgd".
        online_from: Where an online update starts: "initial", theta_init^K as in eq. (3), or "current".
        gamma: Weight of the triplet loss, eq. (4).
        gap: Margin xi of eq. (5).
        printed_distance: Divide by the squared length in eq. (6), as printed, instead of by the length.
        inner_clip: Largest norm of a gradient in the inner loop, over all parameters; RT-MDNet's.
        first_order: Leave out second derivatives in training.
        recompute: Compute the activations of the inner loop again instead of keeping them; gradients are equal.
        kwargs: See :class:`CandidateModule`.
    """

    def __init__(
        self,
        k_init: int = 5,
        k_on: int = 5,
        rates: RateKind = "vector",
        initial_rate: float = 0.003,
        rates_lr_factor: float = 1.0,
        estimated_targets: bool = True,
        hard_examples: bool = True,
        online: Literal["meta", "sgd"] = "meta",
        online_lr: float = 3e-4,
        online_from: Literal["initial", "current"] = "initial",
        gamma: float = 0.1,
        gap: float = 0.5,
        printed_distance: bool = False,
        inner_clip: float = 10.0,
        first_order: bool = False,
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, count in {"k_init": k_init, "k_on": k_on}.items():
            if count < 1:
                raise ValueError(f"{name} is {count} but must be at least 1")
        if gamma < 0:
            raise ValueError(f"gamma is {gamma} but must be at least 0")
        self.k_init, self.k_on, self.rates, self.rates_lr_factor = k_init, k_on, rates, rates_lr_factor
        self.estimated_targets, self.hard_examples = estimated_targets, hard_examples
        self.online, self.online_lr, self.online_from = online, online_lr, online_from
        self.gamma, self.gap, self.printed_distance = gamma, gap, printed_distance
        self.inner_clip, self.first_order, self.recompute = inner_clip, first_order, recompute
        self.rates_init = Rates(self.network, k_init, rates, initial_rate)
        self.rates_on = Rates(self.network, k_on, rates, initial_rate) if online == "meta" else None

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the two terms of eq. (7): tested after the initial and after the online adaptation."""
        tau = self.simulate(episode)
        terms = {"initial": self._test(tau, tau.after_initial)}
        if self.online == "meta":
            terms["online"] = self._test(tau, tau.after_online[-1])
        return terms  # eq. (7); autograd gives eq. (8)

    def simulate(self, episode: Episode) -> Trajectory:
        """Return the trajectory of a training episode."""
        kept = {"first_order": self.first_order, "recompute": self.recompute}
        steps = [
            partial(self._adapt, rates, **kept) if rates is not None else lambda head, data: [head]
            for rates in (self.rates_init, self.rates_on)
        ]
        return simulate(
            self.network,
            clips_of(self.network, episode),
            self.episode_settings,
            torch.default_generator,
            *steps,
            estimated_targets=self.estimated_targets,
            hard_examples=self.hard_examples,
        )

    def adapt_first(self, head: Head, data: Samples) -> Head:
        """Adapt to the first frame, eq. (2)."""
        return self._tracked(self.rates_init, head, data)

    def adapt_online(self, initial: Head, head: Head, data: Samples, pruned: Pruned | None) -> Head:
        """Adapt to remembered samples, eq. (3); a pruned network has pruned rates."""
        masks = None if pruned is None else pruned.scales
        if self.rates_on is None:
            return adapt_sgd(
                head, data, self.batches, torch.default_generator, self.k_on, self.online_lr, drop=0.0, masks=masks
            )
        begin = initial if self.online_from == "initial" else head
        return self._tracked(self.rates_on, begin, data, masks, pruned)

    def settings(self) -> dict[str, Any]:
        """Return what tells one tracker's results from another's; the rates are among the weights."""
        more = {"k_init": self.k_init, "k_on": self.k_on, "online": self.online, "online_from": self.online_from}
        return {**super().settings(), **more, "online_lr": self.online_lr, "inner_clip": self.inner_clip}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the learned rates a learning rate of their own."""
        own = {n: p for n, p in self.named_parameters() if p.requires_grad}
        rates = [p for n, p in own.items() if n.startswith("rates_")]
        groups = [{"params": [p for n, p in own.items() if not n.startswith("rates_")]}]
        return groups + ([{"params": rates, "lr_factor": self.rates_lr_factor, "weight_decay": 0.0}] if rates else [])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that was meta-trained with other numbers of steps, and say so.

        Raises:
            ValueError: Names both numbers.
        """
        own = self.state_dict()
        for name, wanted in (("rates_init", self.k_init), ("rates_on", self.k_on)):
            for key, value in checkpoint["state_dict"].items():
                if key.startswith(f"{name}.") and key in own and value.ndim and len(value) != len(own[key]):
                    which = name.replace("rates", "k")
                    raise ValueError(
                        f"{which} is {wanted} but the checkpoint was meta-trained with {which} {len(value)}: "
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
        if self.rates == "vector":
            write_png(draw_rates(self), folder / "rates.png")
        if self.trainer.state.fn == "fit" and data is not None:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                episode = data.episode("train", 0)
                write_png(draw_simulation(episode, self.simulate(episode)), folder / "simulated.png")

    def _adapt(self, rates: Rates, head: Head, data: Samples, **options: Any) -> list[Head]:
        return adapt(head, rates.steps(), data, self.batches, torch.default_generator, clip=self.inner_clip, **options)

    @torch.no_grad()
    def _tracked(
        self, rates: Rates, head: Head, data: Samples, masks: Head | None = None, pruned: Pruned | None = None
    ) -> Head:
        """Adapt without keeping how it depends on the meta-parameters."""
        steps = rates.steps() if pruned is None else pruned.rates
        return adapt(head, steps, data, self.batches, torch.default_generator, masks, clip=self.inner_clip)[-1]

    def _test(self, tau: Trajectory, head: Head) -> Tensor:
        """Return eq. (4), the mean over clips."""
        hard = None if tau.hard is None else score(head, tau.hard)
        logits, positives = score(head, tau.test.joined()), tau.test.positives.shape[1]
        return test_loss(logits, positives, hard, self.gamma, self.gap, self.printed_distance).mean()


class Rates(nn.Module):
    """The learning rates of K steps: A_init or A_on.

    Args:
        network: Whose head they belong to.
        steps: K.
        kind: See :class:`MetaRTT`.
        initial: First value.
    """

    def __init__(self, network: Network, steps: int, kind: RateKind, initial: float) -> None:
        super().__init__()
        self.count = steps
        self.learned = nn.ParameterDict()
        if kind == "vector":
            for name, p in network.head().items():
                self.learned[name.replace(".", "_")] = nn.Parameter(torch.full((steps, *p.shape[1:]), initial))
        elif kind == "scalar":
            self.learned["all"] = nn.Parameter(torch.tensor(initial))
        self.register_buffer("fixed", torch.tensor(initial) if kind == "fixed" else None)
        self.names = list(network.head())

    def steps(self) -> list[Head]:
        """Return alpha^1 to alpha^K by parameter, with a leading dimension for the clips."""
        if self.fixed is not None or "all" in self.learned:
            one = (self.fixed if self.fixed is not None else self.learned["all"])[None]
            return [dict.fromkeys(self.names, one)] * self.count
        return [{n: self.learned[n.replace(".", "_")][k][None] for n in self.names} for k in range(self.count)]
