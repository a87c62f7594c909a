"""What a training episode of a tracker is: pairs (Learnet), clips (MLT) or whole frames (MetaRTT).

An item is drawn by number: a video, an object in it, frames where it can be seen; only those frames are decoded, and
only their boxes read where boxes come one by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from datamodules.tracking.patches import TrainingCrops, cut_exemplar, cut_search, reduce_frame
from lightning_fewshot.boxes import valid
from lightning_fewshot.episodes import Episode, Examples

if TYPE_CHECKING:
    from datamodules.tracking.base import Target, TrackingData

TRIES = 100  # videos looked at before a training item is given up
LOOKED_AT = 20  # frames of a video looked at for one where the object is visible
CLASSES = ("object",)
Item = tuple[Tensor, Tensor]  # an image (3, H, W) and the object's box (1, 4) in it


class TrainingItems(ABC):
    """What the items of a training episode are. Another kind is another subclass: a frozen dataclass of settings."""

    min_side: float

    @abstractmethod
    def episode(self, data: TrackingData, rng: np.random.Generator, index: int) -> Episode:
        """Draw training episode ``index``: ``data.batch_size`` items."""

    def draw(
        self, data: TrackingData, rng: np.random.Generator, n: int, but: Collection[int] = ()
    ) -> tuple[int, Target, list[int]]:
        """Draw a video, none of ``but`` where there are others, an object in it and ``n`` frames that show it.

        Raises:
            ValueError: ``TRIES`` videos in a row have too few such frames.
        """
        for _ in range(TRIES):
            video = data.choose(rng)
            if video in but and len(but) < data.count("train"):
                continue
            target = data.target("train", video, rng)
            times = self.visible(target, rng.permutation(len(target)).tolist(), n)
            if len(times) == n:
                return video, target, times
        raise ValueError(
            f"none of {TRIES} training videos has {n} frames with the object in sight, at least {self.min_side:g} "
            f"pixels wide: {self}"
        )

    def visible(self, target: Target, times: Iterable[int], n: int) -> list[int]:
        """Return the first ``n`` of ``times`` at which the object has a box to learn from."""
        seen: list[int] = []
        for looked, t in enumerate(times):
            if len(seen) == n or looked >= LOOKED_AT + 2 * n:
                break
            if bool(valid(target.box(t), self.min_side)):
                seen.append(t)
        return seen


@dataclass(frozen=True)
class Pairs(TrainingItems):
    """Exemplar, search patch and whether both show one object (Learnet, section 3.3).

    Args:
        max_gap: Frames between exemplar and search patch of one object, at most.
        positives: Share of pairs that show one object twice; the others show another video's object.
        crops: How exemplar and search patch are cut.
        min_side: A box narrower than this many pixels is not trained on.
    """

    max_gap: int = 50
    positives: float = 0.75
    crops: TrainingCrops = field(default_factory=TrainingCrops)
    min_side: float = 4.0

    def __post_init__(self) -> None:
        if self.max_gap < 1:
            raise ValueError(f"max_gap is {self.max_gap} but must be at least 1")
        if not 0 <= self.positives <= 1:
            raise ValueError(f"positives is {self.positives} but must be in [0, 1]")

    def episode(self, data: TrackingData, rng: np.random.Generator, index: int) -> Episode:
        """Draw a batch of pairs; exemplar i belongs to search patch i."""
        pairs = [self._pair(data, rng) for _ in range(data.batch_size)]
        exemplars, searches, labels = zip(*pairs, strict=True)
        support = _examples(exemplars)._replace(query_index=torch.arange(len(pairs)))
        query = _examples(searches)._replace(labels=torch.tensor(labels))
        return Episode(support, query, CLASSES, index, protocol="pairs")

    def _pair(self, data: TrackingData, rng: np.random.Generator) -> tuple[Item, Item, int]:
        video, target, (first,) = self.draw(data, rng, 1)
        label = int(rng.random() < self.positives or data.count("train") < 2)
        if label:
            other, second = target, self._second(target, first, rng)
        else:
            _, other, (second,) = self.draw(data, rng, 1, but=[video])
        flip = data.augmentation.draw_flip(rng)
        exemplar = cut_exemplar(target.frames[first], target.box(first).float(), self.crops)
        exemplar = data.augmentation(*exemplar, rng=rng, flip=flip)
        search = cut_search(other.frames[second], other.box(second).float(), self.crops, rng)
        return exemplar, data.augmentation(*search, rng=rng, flip=flip), label

    def _second(self, target: Target, first: int, rng: np.random.Generator) -> int:
        """Draw another frame that shows the object, at most ``max_gap`` away; the first again where there is none."""
        near = np.arange(max(0, first - self.max_gap), min(len(target), first + self.max_gap + 1))
        others = self.visible(target, (t for t in rng.permutation(near).tolist() if t != first), 1)
        return (others or [first])[0]


@dataclass(frozen=True)
class Clips(TrainingItems):
    """An exemplar and T context patches of the same object (MLT, section 3.2.2).

    Args:
        frames: Context patches T beside the exemplar.
        crops: How exemplar and context patches are cut.
        min_side: A box narrower than this many pixels is not trained on.
    """

    frames: int = 6
    crops: TrainingCrops = field(default_factory=TrainingCrops)
    min_side: float = 4.0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames} but must be at least 1")

    def episode(self, data: TrackingData, rng: np.random.Generator, index: int) -> Episode:
        """Draw a batch of clips; the context patches come clip by clip, in the order of time."""
        clips = [self._clip(data, rng) for _ in range(data.batch_size)]
        query = _examples([patch for _, patches in clips for patch in patches])
        query = query._replace(labels=torch.ones(len(query.images), dtype=torch.int64))
        return Episode(_examples([exemplar for exemplar, _ in clips]), query, CLASSES, index, protocol="clips")

    def _clip(self, data: TrackingData, rng: np.random.Generator) -> tuple[Item, list[Item]]:
        _, target, times = self.draw(data, rng, self.frames + 1)
        flip = data.augmentation.draw_flip(rng)
        anchor = times.pop(int(rng.integers(len(times))))
        exemplar = cut_exemplar(target.frames[anchor], target.box(anchor).float(), self.crops)
        exemplar = data.augmentation(*exemplar, rng=rng, flip=flip)
        patches = []
        for t in sorted(times):
            patch = cut_search(target.frames[t], target.box(t).float(), self.crops, rng)
            patches.append(data.augmentation(*patch, rng=rng, flip=flip))
        return exemplar, patches


@dataclass(frozen=True)
class WholeFrames(TrainingItems):
    """T frames of one video in order, whole (MetaRTT, section 5).

    Args:
        frames: Frames T of a video, the first included.
        max_side: Reduce frames to this longer side, in pixels; None keeps them.
        min_side: A box narrower than this many pixels is not trained on.
    """

    frames: int = 6
    max_side: int | None = None
    min_side: float = 4.0

    def __post_init__(self) -> None:
        for name, least in {"frames": 1, "max_side": 1}.items():
            if (count := getattr(self, name)) is not None and count < least:
                raise ValueError(f"{name} is {count} but must be at least {least}")

    def episode(self, data: TrackingData, rng: np.random.Generator, index: int) -> Episode:
        """Draw a batch of videos, different ones where there are enough: the first frames, and all later ones."""
        videos: list[int] = []
        clips = []
        for _ in range(data.batch_size):
            video, target, times = self.draw(data, rng, self.frames, but=videos)
            videos.append(video)
            clips.append(self._clip(data, target, sorted(times), rng))
        parts = ([clip[0] for clip in clips], [item for clip in clips for item in clip[1:]])
        support, query = (Examples([f for f, _ in items], boxes=[b for _, b in items]) for items in parts)
        return Episode(support, query, CLASSES, index, class_ids=tuple(videos), protocol="frames")

    def _clip(self, data: TrackingData, target: Target, times: list[int], rng: np.random.Generator) -> list[Item]:
        flip = data.augmentation.draw_flip(rng)
        whole = (reduce_frame(target.frames[t], target.box(t).float(), self.max_side) for t in times)
        return [data.augmentation(*item, rng=rng, flip=flip) for item in whole]


def _examples(items: Iterable[Item]) -> Examples:
    images, boxes = zip(*items, strict=True)
    return Examples(torch.stack(images), boxes=list(boxes))
