"""Videos as tracking episodes: pairs, clips and whole frames to train on, sequences to evaluate on.

A data set adds one file that says how many videos a split has and how to open one of them. A training item is drawn
by number: a video, an object in it, frames where it can be seen; only those frames are decoded, and only their boxes
read where boxes come one by one, so that a million frames cost no memory.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.images.augmentation import jitter_colours
from lightning_fewshot.boxes import scale, valid
from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.tracking.crops import centres, crop, mean_colour, search_windows, to_crop
from lightning_fewshot.tracking.episodes import sequence_episode
from lightning_fewshot.tracking.frames import Frames

TRIES = 100  # videos looked at before a training item is given up
LOOKED_AT = 20  # frames of a video looked at for one where the object is visible


class Target:
    """One object in one video.

    Args:
        frames: The video.
        boxes: ``(T', 4)`` float32, NaN where the object is absent; T' <= T.
    """

    def __init__(self, frames: Frames, boxes: Tensor) -> None:
        self.frames, self._boxes = frames, boxes

    def __len__(self) -> int:
        """Return the number of frames that may hold a box."""
        return min(len(self.frames), len(self._boxes))

    def box(self, t: int) -> Tensor:
        """Return the box ``(4,)`` of frame ``t``; a reader of one file a frame overrides this."""
        return self._boxes[t]

    def boxes(self) -> Tensor:
        """Return all boxes ``(T', 4)``."""
        return self._boxes


class TrackingData(EpisodicDataModule):
    """Base of every set of videos. The episodes are described in ``lightning_fewshot.tracking.episodes``.

    Args:
        train: What a training episode is: "pairs" (Learnet, section 3.3), "clips" (MLT) or "frames" (MetaRTT).
        batch_size: Items of a training episode: pairs, or clips.
        clip_frames: Frames T of a clip: context patches beside the exemplar ("clips"), or all frames ("frames").
        max_gap: Frames between exemplar and search patch of a pair, at most.
        positives: Share of pairs that show one object twice; the others show another video's object.
        exemplar: Side of an exemplar, in pixels.
        search: Side of a search patch, in pixels, at the exemplar's scale.
        context: Margin of the exemplar, as a share of width plus height.
        shift: Move a search patch by up to so many of its pixels (0: the object is at its centre, as in section 3.3).
        stretch: Scale a search patch by up to this share, 0.05 is five percent.
        mirror: Mirror a training item with probability one half.
        colour: Colour augmentation of training images.
        max_side: Reduce whole frames ("frames") to this longer side, in pixels; None keeps them.
        max_frames: Cut validation and test sequences after so many frames; None keeps them whole.
        min_side: A box narrower than this many pixels is not trained on.
        episodes: Episodes of training, validation and test.
        seed: Everything is a function of (seed, split, index).
        num_workers: Processes that prepare episodes.

    Raises:
        ValueError: A number is out of range; or no training video has enough frames with the object in sight.
    """

    def __init__(
        self,
        train: Literal["pairs", "clips", "frames"] = "pairs",
        batch_size: int = 8,
        clip_frames: int = 6,
        max_gap: int = 50,
        positives: float = 0.75,
        exemplar: int = 127,
        search: int = 255,
        context: float = 0.5,
        shift: float = 0.0,
        stretch: float = 0.0,
        mirror: bool = False,
        colour: bool = False,
        max_side: int | None = None,
        max_frames: int | None = None,
        min_side: float = 4.0,
        episodes: EpisodeCounts = EpisodeCounts(1000, 20, None),
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__(n_way=1, k_shot=1, n_query=1, episodes=episodes, seed=seed, num_workers=num_workers)
        counts = {"batch_size": batch_size, "clip_frames": clip_frames, "exemplar": exemplar, "search": search}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} is {count} but must be at least 1")
        if not 0 <= positives <= 1:
            raise ValueError(f"positives is {positives} but must be in [0, 1]")
        if max_frames is not None and max_frames < 1:
            raise ValueError(f"max_frames is {max_frames} but must be at least 1")
        self.train_items, self.batch_size, self.clip_frames = train, batch_size, clip_frames
        self.max_gap, self.positives = max_gap, positives
        self.exemplar, self.search, self.context = exemplar, search, context
        self.shift, self.stretch, self.mirror, self.colour = shift, stretch, mirror, colour
        self.max_side, self.max_frames, self.min_side = max_side, max_frames, min_side
        self._at_most = {"val": episodes.val, "test": episodes.test}

    @abstractmethod
    def count(self, split: str) -> int:
        """Return the number of videos of "train", "val" or "test"; no image is decoded."""

    @abstractmethod
    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a video, and choose one of its objects: by ``rng`` in training, else always the same one."""

    def choose(self, rng: np.random.Generator) -> int:
        """Draw the number of a training video."""
        return int(rng.integers(self.count("train")))

    def setup(self, stage: str) -> None:
        """Count the videos of this stage, before workers start."""
        stages = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}
        for split in stages.get(stage, ()):
            found = self.count(split)
            if split == "train" and found < 1:
                raise ValueError(f"{type(self).__name__} has no training video")
            if split in self._at_most:
                limit = self._at_most[split]
                self.counts[split] = found if limit is None else min(found, limit)

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        return {**super().protocol(split), "evaluation": "one-pass", "max_frames": self.max_frames}

    def episode(self, split: str, index: int) -> Episode:
        """Return a training episode, or sequence ``index`` of another split."""
        if split != "train":
            return self._sequence(split, index)
        rng = self.rng("train", index)
        return {"pairs": self._pairs, "clips": self._clips, "frames": self._frames}[self.train_items](rng, index)

    def _sequence(self, split: str, index: int) -> Episode:
        target = self.target(split, index)
        frames, boxes = target.frames, target.boxes()
        if self.max_frames is not None:
            frames, boxes = frames[: self.max_frames], boxes[: self.max_frames]
        return sequence_episode(frames, boxes, index)

    def _pairs(self, rng: np.random.Generator, index: int) -> Episode:
        """Section 3.3 of Learnet: exemplar, search patch and whether both show one object."""
        items = [self._pair(rng) for _ in range(self.batch_size)]
        exemplars, searches, labels = zip(*items, strict=True)
        query = _examples(searches)._replace(labels=torch.tensor(labels))
        return Episode(_examples(exemplars), query, ("object",), index, protocol="pairs")

    def _pair(self, rng: np.random.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]:
        video, target, (first,) = self._draw(rng, 1)
        label = int(rng.random() < self.positives or self.count("train") < 2)
        if label:
            near = [t for t in range(first - self.max_gap, first + self.max_gap + 1) if 0 <= t < len(target)]
            others = self._visible(target, (t for t in rng.permutation(near).tolist() if t != first), 1)
            other, second = target, (others or [first])[0]
        else:
            _, other, (second,) = self._draw(rng, 1, but=video)
        flip = self.mirror and bool(rng.random() < 0.5)
        return (
            self._cut(target, first, self.exemplar, rng, flip, moved=False),
            self._cut(other, second, self.search, rng, flip, moved=True),
            label,
        )

    def _clips(self, rng: np.random.Generator, index: int) -> Episode:
        """Section 3.2.2 of MLT: an exemplar and T context patches of the same object."""
        exemplars, searches = [], []
        for _ in range(self.batch_size):
            _, target, times = self._draw(rng, self.clip_frames + 1)
            flip = self.mirror and bool(rng.random() < 0.5)
            anchor = times.pop(int(rng.integers(len(times))))
            exemplars.append(self._cut(target, anchor, self.exemplar, rng, flip, moved=False))
            searches += [self._cut(target, t, self.search, rng, flip, moved=True) for t in sorted(times)]
        query = _examples(searches)._replace(labels=torch.ones(len(searches), dtype=torch.int64))
        return Episode(_examples(exemplars), query, ("object",), index, protocol="clips")

    def _frames(self, rng: np.random.Generator, index: int) -> Episode:
        """Section 5 of MetaRTT: T frames of one video in order, whole."""
        first, others, used = [], [], []
        for _ in range(self.batch_size):
            video, target, times = self._draw(rng, self.clip_frames, but=used)
            used.append(video)
            flip = self.mirror and bool(rng.random() < 0.5)
            clip = [self._whole(target, t, rng, flip) for t in sorted(times)]
            first.append(clip[0])
            others += clip[1:]
        parts = [Examples([f for f, _ in items], boxes=[b for _, b in items]) for items in (first, others)]
        return Episode(*parts, ("object",), index, class_ids=tuple(used), protocol="frames")

    def _draw(self, rng: np.random.Generator, n: int, but: Any = ()) -> tuple[int, Target, list[int]]:
        """Draw a video, an object in it and ``n`` different frames where it is visible."""
        but = {but} if isinstance(but, int) else set(but)
        count = self.count("train")
        for _ in range(TRIES):
            video = self.choose(rng)
            if video in but and len(but) < count:
                continue
            target = self.target("train", video, rng)
            found = self._visible(target, rng.permutation(len(target)).tolist(), n)
            if len(found) == n:
                return video, target, found
        raise ValueError(
            f"none of {TRIES} training videos has {n} frames with the object in sight: clip_frames is "
            f"{self.clip_frames}, min_side {self.min_side:g} pixels"
        )

    def _visible(self, target: Target, times: Iterable[int], n: int) -> list[int]:
        """Return the first ``n`` of ``times`` at which the object has a box to learn from."""
        found: list[int] = []
        for looked, t in enumerate(times):
            if len(found) == n or looked >= LOOKED_AT + 2 * n:
                break
            if bool(valid(target.box(t), self.min_side)):
                found.append(t)
        return found

    def _cut(
        self, target: Target, t: int, size: int, rng: np.random.Generator, flip: bool, moved: bool
    ) -> tuple[Tensor, Tensor]:
        """Cut one crop ``(3, S, S)`` uint8, and return it with the object's box ``(1, 4)`` in it."""
        frame, box = target.frames[t], target.box(t).float()
        window = search_windows(box, 1.0, self.context, size / self.exemplar)  # an exemplar's ratio is 1
        if moved and (self.shift or self.stretch):
            window = _move(window, rng, self.shift / size, self.stretch)
        image = crop(frame, window[None], size, mean_colour(frame))[0].round().clamp(0, 255).to(torch.uint8)
        return self._augment(image, to_crop(box, window, size)[None], rng, flip)

    def _whole(self, target: Target, t: int, rng: np.random.Generator, flip: bool) -> tuple[Tensor, Tensor]:
        frame, box = target.frames[t], target.box(t).float()[None]
        longer = max(frame.shape[1:])
        if self.max_side is not None and longer > self.max_side:
            size = [max(1, round(side * self.max_side / longer)) for side in frame.shape[1:]]
            box = scale(box, size[0] / frame.shape[1], size[1] / frame.shape[2])
            frame = torch.nn.functional.interpolate(frame[None].float(), size, mode="bilinear", antialias=True)[0]
            frame = frame.round().clamp(0, 255).to(torch.uint8)
        return self._augment(frame, box, rng, flip)

    def _augment(self, image: Tensor, box: Tensor, rng: np.random.Generator, flip: bool) -> tuple[Tensor, Tensor]:
        if self.colour:
            picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
            image = torch.from_numpy(jitter_colours(picture, rng)).permute(2, 0, 1)
        if flip:
            width = image.shape[2]
            box = torch.stack((width - box[:, 2], box[:, 1], width - box[:, 0], box[:, 3]), dim=1)
            image = image.flip(2)
        return image.contiguous(), box


def _move(window: Tensor, rng: np.random.Generator, shift: float, stretch: float) -> Tensor:
    """Move a window ``(4,)`` by up to ``shift`` of its side along each axis and scale it by up to ``stretch``."""
    side = window[2:] - window[:2]
    centre = centres(window) + side * torch.from_numpy(rng.uniform(-shift, shift, 2)).float()
    half = side / 2 * float(1 + rng.uniform(-stretch, stretch))
    return torch.cat((centre - half, centre + half))


def _examples(items: Any) -> Examples:
    images, boxes = zip(*items, strict=True)
    return Examples(torch.stack(images), boxes=list(boxes))
