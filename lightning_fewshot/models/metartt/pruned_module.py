"""MetaRTT+Prune as a LightningModule: theta stays fixed, the pruning network learns (section 4)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import CatMetric

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.estimate import Estimate, mean_interval
from lightning_fewshot.models.metartt.module import MetaRTT
from lightning_fewshot.models.metartt.network import Head
from lightning_fewshot.models.metartt.pruning import (
    Pruned,
    PruningNetwork,
    View,
    episode_loss,
    pooled_maps,
    remove_channels,
    trajectory_loss,
)
from lightning_fewshot.models.metartt.tracker import CandidateTracker, Strategy, TrackState
from lightning_fewshot.tracking.episodes import is_sequence

Pruning = Literal["adaptive", "static", "first_frame"]
# A static mask is a bare vector: Adam moves it by one learning rate a step, and what a network predicts by far more.
STATIC_LR_FACTOR = 4.0


class PrunedMetaRTT(MetaRTT):
    """Predict from the first frame which channels a video needs, and track with these alone.

    Args:
        pruning: "adaptive": meta-learned and one-shot; "static": one mask for all videos; "first_frame": no
            meta-learning, the pruning network is optimised in the first frame of every video (table 3).
        sparsity: lambda of eq. (9).
        pruning_hidden: Width of the perceptrons.
        pruning_drop: Their dropout.
        first_frame_steps: Optimisation steps of "first_frame".
        first_frame_lr: Their learning rate (Adam).
        kwargs: See :class:`MetaRTT`; ``init_from`` is the meta-trained checkpoint.
    """

    def __init__(
        self,
        pruning: Pruning = "adaptive",
        sparsity: float = 0.2,
        pruning_hidden: int = 128,
        pruning_drop: float = 0.5,
        first_frame_steps: int = 50,
        first_frame_lr: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if sparsity < 0:
            raise ValueError(f"sparsity is {sparsity} but must be at least 0")
        self.pruning, self.sparsity = pruning, sparsity
        self.pruning_hidden, self.pruning_drop = pruning_hidden, pruning_drop
        self.first_frame_steps, self.first_frame_lr = first_frame_steps, first_frame_lr
        self.requires_grad_(False)  # theta and its rates are kept fixed while phi is learned
        self.psi = PruningNetwork(self.network, pruning_hidden, pruning_drop, static=pruning == "static")

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return eq. (12): eq. (11) with the masks that the pruning network predicts from D_init."""
        with torch.no_grad():
            tau = self.simulate(episode)
            pooled = pooled_maps(self.network, View(tau.clips.scenes[:, :1], tau.boxes[0][:, None], tau.after_initial))
        return {"prune": trajectory_loss(self.network, self.psi(pooled), tau, self.sparsity).mean()}  # eq. (12)

    def tracker(self) -> CandidateTracker:
        """Return the tracker that prunes for every video."""
        strategy = Strategy(self.start, self.adapt_first, self.adapt_online, self.prune)
        return CandidateTracker(self.network, strategy, self.tracking, **self.settings())

    def prune(self, view: View, positives: int) -> Pruned:
        """Return the smaller network for one video.

        Args:
            view: D_init in J scenes: ``(1, J, n, 4)`` boxes, and the adapted head.
            positives: How many of the boxes of a scene, the first ones, are positive.
        """
        view = view._replace(boxes=self._as_in_training(view.boxes, positives))
        masks = self._optimised(view) if self.pruning == "first_frame" else self.masks(view)
        pruned = remove_channels(self.network, masks)
        steps = self.rates_on.steps() if self.rates_on is not None else []
        return pruned._replace(rates=tuple(pruned.cut(step) for step in steps))

    @torch.no_grad()
    def masks(self, view: View) -> Head:
        """Return the masks ``(1, C_l)`` by layer that are predicted from D_init."""
        return self.psi.eval()(pooled_maps(self.network, view))

    def settings(self) -> dict[str, Any]:
        """Return what tells one tracker's results from another's."""
        own = {"pruning": self.pruning, "sparsity": self.sparsity}
        return {**super().settings(), **own, "steps": self.first_frame_steps, "lr": self.first_frame_lr}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give a static mask a learning rate of its own, or it would not reach zero."""
        own = {"lr_factor": STATIC_LR_FACTOR} if self.pruning == "static" else {}
        return [group | own for group in super().parameter_groups()]

    def setup(self, stage: str) -> None:
        """Build what collects the prune rates of the sequences."""
        if self.run_seed is None:
            self.prune_rates = nn.ModuleDict({"val": CatMetric(), "test": CatMetric()})
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

    def train(self, mode: bool = True) -> PrunedMetaRTT:
        """Keep everything but the pruning network in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def compute_estimates(self, split: str) -> dict[str, Estimate]:
        """Return the estimates of the sequences, the share of removed parameters among them."""
        estimates, metric = super().compute_estimates(split), self.prune_rates[split]
        if metric.update_called:
            estimates = {**estimates, "prune_rate": mean_interval(metric.compute().reshape(-1))}
        metric.reset()
        return estimates

    def _note(self, split: str, episode: Episode) -> None:
        if is_sequence(episode):
            self.prune_rates[split].update(self.first_state(split, episode).pruned.rate)

    def _as_in_training(self, boxes: Tensor, positives: int) -> Tensor:
        """Take as many positive and negative samples ``(1, J, n, 4)`` as D_init has in training, over all scenes."""
        each = [-(-total // boxes.shape[1]) for total in self.episode_settings.first]
        return torch.cat((boxes[:, :, : min(each[0], positives)], boxes[:, :, positives : positives + each[1]]), dim=2)

    def _optimised(self, view: View) -> Head:
        """Optimise a pruning network on the first frame alone."""
        with torch.enable_grad():
            psi = PruningNetwork(self.network, self.pruning_hidden, self.pruning_drop).to(view.scenes.device)
            optimizer = torch.optim.Adam(psi.parameters(), lr=self.first_frame_lr)
            with torch.no_grad():
                pooled = pooled_maps(self.network, view)
            for _ in range(self.first_frame_steps):
                optimizer.zero_grad()
                episode_loss(self.network, psi(pooled), [view], self.sparsity).sum().backward()
                optimizer.step()
        with torch.no_grad():
            return psi.eval()(pooled)
