"""What RT-MDNet and MetaRTT share as LightningModules: the network, tracking, and adapting to single frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.metartt.adaptation import Batches, Samples
from lightning_fewshot.models.metartt.network import CHANNELS, TARGET_SIZE, Head, Network
from lightning_fewshot.models.metartt.pruning import Pruned
from lightning_fewshot.models.metartt.simulation import EpisodeSettings, collect, estimate_targets, look
from lightning_fewshot.models.metartt.tracker import CandidateTracker, Strategy, TrackerSettings
from lightning_fewshot.nn.backbones import Weights
from lightning_fewshot.tracking.module import TrackingModule


class CandidateModule(TrackingModule):
    """A tracker that scores candidate boxes with a head adapted to the target.

    Args:
        channels: Of the three shared convolutions; the last one counts alone where there is a backbone.
        hidden: Width of fc4 and fc5.
        target_pixels: Pixels of the target's side when it is looked at.
        scene: Side of what is looked at, in sides of the target.
        backbone: A timm network for the first layers, instead of VGG-M's two convolutions.
        weights: Of the backbone: "none", "timm" (downloaded) or "package".
        frozen_stages: First maps of the backbone that are not trained.
        episode: Numbers of samples in training.
        batches: Numbers of samples of a gradient step.
        tracking: Numbers of the tracker.
        kwargs: Optimiser and schedule, see :class:`lightning_fewshot.module.FewShotModule`.
    """

    def __init__(
        self,
        channels: Sequence[int] = CHANNELS,
        hidden: int = 512,
        target_pixels: int = TARGET_SIZE,
        scene: float = 4.5,
        backbone: str | None = None,
        weights: Weights = "none",
        frozen_stages: int = 0,
        episode: EpisodeSettings = EpisodeSettings(),
        batches: Batches = Batches(),
        tracking: TrackerSettings = TrackerSettings(),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = Network(channels, hidden, target_pixels, scene, backbone, weights, frozen_stages)
        self.episode_settings, self.batches, self.tracking = episode, batches, tracking

    @abstractmethod
    def adapt_first(self, head: Head, data: Samples) -> Head:
        """Return the head after the initial adaptation."""

    @abstractmethod
    def adapt_online(self, initial: Head, head: Head, data: Samples, pruned: Pruned | None) -> Head:
        """Return the head after an online adaptation."""

    def start(self, clips: int = 1) -> Head:
        """Return the head that adaptation starts from, once a clip."""
        return self.network.head(clips)

    def tracker(self) -> CandidateTracker:
        """Return the tracker with the present weights."""
        strategy = Strategy(self.start, self.adapt_first, self.adapt_online)
        return CandidateTracker(self.network, strategy, self.tracking, **self.settings())

    def settings(self) -> dict[str, Any]:
        """Return what else tells one tracker's results from another's."""
        return {"batches": tuple(self.batches)}

    def adapt(self, support: Examples) -> Head:
        """Return the heads ``(P, ...)`` after the initial adaptation to P first frames, each with its box."""
        clips = look(self.network, [support])
        maps = self.network.shared(clips.scenes.flatten(0, 1))[:, None]
        counts = self.episode_settings.first
        data, _ = collect(self.network, maps, clips, clips.boxes, counts, torch.default_generator)
        return self.adapt_first(self.start(len(maps)), data)

    def predict(self, state: Head, query: Examples) -> Tensor:
        """Return estimated targets ``(B, 4)`` of B frames, searched for near each frame's box; clip by clip."""
        count = len(next(iter(state.values())))
        if len(query.images) % count:
            raise ValueError(f"the query has {len(query.images)} frames, no multiple of the {count} adapted heads")
        clips = look(self.network, [query])
        clips = type(clips)(*(part.flatten(0, 1).unflatten(0, (count, -1)) for part in clips))
        maps = self.network.shared(clips.scenes.flatten(0, 1)).unflatten(0, (count, -1))
        settings = self.episode_settings
        found, _ = estimate_targets(self.network, maps, clips, state, settings, torch.default_generator)
        return found.flatten(0, 1)

    def on_train_batch_end(self, outputs: Any, batch: Episode, batch_idx: int) -> None:
        """Report the largest memory of a step on a GPU."""
        if self.device.type == "cuda":
            used = torch.cuda.max_memory_allocated(self.device) / 2**20
            self.log("train/memory_mib", used, batch_size=len(batch.query.images))
