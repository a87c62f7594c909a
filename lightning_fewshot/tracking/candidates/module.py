"""What RT-MDNet and MetaRTT share as LightningModules: the network, tracking, and adapting to single frames."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.settings import BackboneSettings, Optimization
from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.network import CandidateNetwork
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.scenes import collect, estimate_targets, look
from lightning_fewshot.tracking.candidates.settings import (
    Batches,
    CandidateNetworkSettings,
    EpisodeSettings,
    TrackerSettings,
)
from lightning_fewshot.tracking.candidates.strategy import SmallerNetwork, Strategy
from lightning_fewshot.tracking.candidates.tracker import CandidateTracker
from lightning_fewshot.tracking.module import TrackingModule


class AdaptedHeads(NamedTuple):
    """What the first frames of P clips fix.

    Args:
        heads: ``(P, ...)`` after the initial adaptation.
        boxes: ``(P, 4)`` the targets there, in pixels of the frames.
    """

    heads: Head
    boxes: Tensor


class CandidateModule(TrackingModule):
    """A tracker that scores candidate boxes with a head adapted to the target.

    Args:
        network: Widths and sizes of the network.
        backbone: A pretrained network for the first layers, instead of VGG-M's two convolutions.
        episode: Numbers of samples in training.
        batches: Numbers of samples of a gradient step.
        tracking: Numbers of the tracker.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint to start training from, as far as names and shapes agree.
    """

    stays_on_cpu = ("boxes",)  # samples are drawn there

    def __init__(
        self,
        network: CandidateNetworkSettings,
        backbone: BackboneSettings | None,
        episode: EpisodeSettings,
        batches: Batches,
        tracking: TrackerSettings,
        optimization: Optimization,
        init_from: str | None,
    ) -> None:
        super().__init__(optimization, init_from)
        self.network = CandidateNetwork(network, backbone)
        self.episode_settings = episode
        self.batches = batches
        self.tracking = tracking

    @abstractmethod
    def adapt_first(self, head: Head, data: Samples) -> Head:
        """Return the head after the initial adaptation."""

    @abstractmethod
    def adapt_online(self, initial: Head, head: Head, data: Samples, pruned: SmallerNetwork | None) -> Head:
        """Return the head after an online adaptation."""

    @abstractmethod
    def adaptation_settings(self) -> dict[str, Any]:
        """Return the settings by which heads are adapted: they tell one tracker's results from another's."""

    def start(self, clips: int = 1) -> Head:
        """Return the head that adaptation starts from, once a clip."""
        return self.network.head(clips)

    def strategy(self) -> Strategy:
        """Return how the tracker adapts."""
        return Strategy(self.start, self.adapt_first, self.adapt_online)

    def tracker(self) -> CandidateTracker:
        """Return the tracker with the present weights."""
        adaptation = {"batches": self.batches, **self.adaptation_settings()}
        return CandidateTracker(self.network, self.strategy(), self.tracking, adaptation)

    def adapt(self, support: Examples) -> AdaptedHeads:
        """Return the heads after the initial adaptation to P first frames, and where their targets are."""
        clips = look(self.network, [support])
        data, _ = collect(
            network=self.network,
            maps=clips.maps(self.network),
            clips=clips,
            targets=clips.boxes,
            counts=self.episode_settings.first,
            generator=torch.default_generator,
        )
        return AdaptedHeads(self.adapt_first(self.start(len(clips.boxes)), data), clips.boxes[:, 0])

    def predict(self, state: AdaptedHeads, query: Examples) -> Tensor:
        """Return estimated targets ``(B, 4)`` of B frames, clip by clip.

        Each is searched for around the last estimate; boxes of the query are not looked at.
        """
        count = len(state.boxes)
        if len(query.images) % count:
            raise ValueError(f"the query has {len(query.images)} frames, no multiple of the {count} adapted heads")
        boxes, estimated = state.boxes, []
        for t in range(len(query.images) // count):
            frames = [query.images[p * len(query.images) // count + t] for p in range(count)]
            clips = look(self.network, [Examples(frames, boxes=list(boxes[:, None]))])
            found, _ = estimate_targets(
                network=self.network,
                maps=clips.maps(self.network),
                clips=clips,
                head=state.heads,
                settings=self.tracking,
                generator=torch.default_generator,
            )
            boxes = found[:, 0]
            estimated.append(boxes)
        return torch.stack(estimated, dim=1).flatten(0, 1)

    def on_train_batch_end(self, outputs: Any, batch: Episode, batch_idx: int) -> None:
        """Report the largest memory of a step on a GPU."""
        if self.device.type == "cuda":
            used = torch.cuda.max_memory_allocated(self.device) / 2**20
            self.log("train/memory_mib", used, batch_size=len(batch.query.images))
