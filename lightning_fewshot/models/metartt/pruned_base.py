"""What all ways to prune share: theta stays fixed, every video is tracked with the channels that its masks leave."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.estimate import Estimate, mean_interval
from lightning_fewshot.metrics.gathering import gather_rows
from lightning_fewshot.models.metartt.channels import Pruned, remove_channels
from lightning_fewshot.models.metartt.module import MetaRTT
from lightning_fewshot.models.metartt.pruning_loss import trajectory_loss
from lightning_fewshot.models.metartt.pruning_network import pooled_maps
from lightning_fewshot.models.metartt.settings import InnerLoop, OnlineAdaptation, SimulatedEpisode
from lightning_fewshot.settings import BackboneSettings, Optimization
from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.settings import Batches, CandidateNetworkSettings, TrackerSettings
from lightning_fewshot.tracking.candidates.strategy import Strategy, TrackState, View
from lightning_fewshot.tracking.episodes import is_sequence

SPARSITY_STEP = 0.1  # of the logarithm of lambda, for a prune rate that is wrong by 1


class PruningModule(MetaRTT):
    """Prune a meta-trained tracker. A subclass makes ``psi`` after the constructor, which returns masks by layer.

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
        prune_rate: Wanted share of removed parameters: lambda rises after a step that removes less, and falls after one
            that removes more. None: lambda stays as it is.
    """

    psi: nn.Module
    found_sparsity: Tensor

    def __init__(
        self,
        network: CandidateNetworkSettings,
        backbone: BackboneSettings | None,
        episode: SimulatedEpisode,
        batches: Batches,
        tracking: TrackerSettings,
        inner: InnerLoop,
        online: OnlineAdaptation,
        sparsity: float,
        optimization: Optimization,
        init_from: str | None,
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
            optimization=optimization,
            init_from=init_from,
        )
        if sparsity < 0:
            raise ValueError(f"sparsity is {sparsity} but must be at least 0")
        if prune_rate is not None and not (0 < prune_rate < 1 and sparsity > 0):
            raise ValueError(
                f"prune_rate is {prune_rate} and sparsity {sparsity}, but the rate must be above 0 and below 1, and "
                "lambda is found from a start above 0"
            )
        self.sparsity = sparsity
        self.prune_rate = prune_rate
        if prune_rate is not None:
            self.register_buffer("found_sparsity", torch.tensor(sparsity))
        self.requires_grad_(False)  # theta and its rates are kept fixed while phi is learned

    @abstractmethod
    def masks(self, view: View) -> Head:
        """Return the masks ``(1, C_l)`` by layer for a video, from D_init of its first frame."""

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return eq. (12): eq. (11) with the masks that ``psi`` predicts from D_init."""
        with torch.no_grad():
            tau = self.simulate(episode)
            pooled = pooled_maps(self.network, View(tau.clips.scenes[:, :1], tau.boxes[0][:, None], tau.after_initial))
        sparsity = self.sparsity
        if self.prune_rate is not None:
            sparsity = float(self.found_sparsity)
            self._find_sparsity(pooled)
        return {"prune": trajectory_loss(self.network, self.psi(pooled), tau, sparsity).mean()}  # eq. (12)

    @torch.no_grad()
    def _find_sparsity(self, pooled: Head) -> None:
        """Move lambda by the rate at which the present masks prune; dropout does not count."""
        learning = self.psi.training
        masks = self.psi.eval()(pooled)
        self.psi.train(learning)
        clips = range(len(next(iter(masks.values()))))
        rates = [remove_channels(self.network, {n: m[p : p + 1] for n, m in masks.items()}).rate for p in clips]
        rate = sum(rates) / len(rates)
        self.found_sparsity.copy_(next_sparsity(self.found_sparsity, rate, self.prune_rate))
        self.log("train/prune_rate", rate, batch_size=len(clips))
        self.log("train/sparsity", self.found_sparsity, batch_size=len(clips))

    def strategy(self) -> Strategy:
        """Return how the tracker adapts, and that it prunes for every video."""
        return super().strategy()._replace(prune=self.prune)

    def prune(self, view: View, positives: int) -> Pruned:
        """Return the smaller network for one video.

        Args:
            view: D_init in J scenes: ``(1, J, n, 4)`` boxes, and the adapted head.
            positives: How many of the boxes of a scene, the first ones, are positive.
        """
        view = view._replace(boxes=self._as_in_training(view.boxes, positives))
        pruned = remove_channels(self.network, self.masks(view))
        return pruned._replace(rates=tuple(pruned.cut(step) for step in self.rates_on.steps()))

    def adaptation_settings(self) -> dict[str, Any]:
        """Return what tells one tracker's results from another's; the masks are among the weights."""
        return {**super().adaptation_settings(), "pruning": type(self).__name__}

    def setup(self, stage: str) -> None:
        """Build what collects the prune rates of the sequences."""
        if self.run_seed is None:
            self.prune_rates: dict[str, list[float]] = {"val": [], "test": []}
        super().setup(stage)

    def validation_step(self, episode: Episode, batch_idx: int) -> Any:
        """Track one sequence, and note how much of the network was removed."""
        preds = super().validation_step(episode, batch_idx)
        self._note("val", episode)
        return preds

    def test_step(self, episode: Episode, batch_idx: int) -> Any:
        """Track one sequence, and note how much of the network was removed."""
        preds = super().test_step(episode, batch_idx)
        self._note("test", episode)
        return preds

    def first_state(self, split: str, episode: Episode) -> TrackState:
        """Return the tracker's state after the first frame of a sequence, as it was when the sequence was tracked."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.step_seed(split, episode.index))
            return self.tracker().init(episode.query.images[0], episode.support.boxes[0][0].cpu())

    def draw(self, episode: Episode, preds: Any) -> Tensor:
        """Return the strip of frames, and below it the masks of this sequence."""
        from lightning_fewshot.models.metartt.visualization import draw_masks, stack

        strip = super().draw(episode, preds)
        if not is_sequence(episode):
            return strip
        split = "test" if self.trainer.testing else "val"
        return stack([strip, draw_masks(self.first_state(split, episode).pruned.keep)])

    def train(self, mode: bool = True) -> PruningModule:
        """Keep everything but the pruning network in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def compute_estimates(self, split: str) -> dict[str, Estimate]:
        """Return the estimates of the sequences, the share of removed parameters among them."""
        estimates, rates = super().compute_estimates(split), gather_rows(self.prune_rates[split])
        self.prune_rates[split] = []
        return {**estimates, "prune_rate": mean_interval(torch.tensor(rates))} if rates else estimates

    def _note(self, split: str, episode: Episode) -> None:
        if is_sequence(episode):
            self.prune_rates[split].append(float(self.first_state(split, episode).pruned.rate))

    def _as_in_training(self, boxes: Tensor, positives: int) -> Tensor:
        """Take as many positive and negative samples ``(1, J, n, 4)`` as D_init has in training, over all scenes."""
        counts = [-(-total // boxes.shape[1]) for total in self.episode_settings.first]
        near = boxes[:, :, : min(counts[0], positives)]
        return torch.cat((near, boxes[:, :, positives : positives + counts[1]]), dim=2)


def next_sparsity(sparsity: Tensor, rate: float, wanted: float) -> Tensor:
    """Return lambda after a step that pruned at ``rate``: larger where less was removed than is wanted.

    >>> [round(next_sparsity(torch.tensor(0.1), rate, 0.5).item(), 4) for rate in (0.3, 0.5, 0.7)]
    [0.102, 0.1, 0.098]
    """
    return sparsity * math.exp(SPARSITY_STEP * (wanted - rate))
