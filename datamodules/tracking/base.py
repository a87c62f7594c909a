"""Videos as tracking episodes. A data set adds one file: how many videos a split has, and how to open one of them.

What a training episode is made of is a class of its own (``datamodules.tracking.training``). A set of test videos is a
data set like any other, and can be given as the ``test`` of the set that a tracker is trained on.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from datamodules.tracking.patches import VideoAugmentation
from datamodules.tracking.training import Pairs, TrainingItems
from lightning_fewshot.data import STAGES, EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode
from lightning_fewshot.tracking.episodes import as_repeat, sequence_episode
from lightning_fewshot.tracking.frames import Frames

TEST_SPLITS = ("test", "predict")  # those of `test`, where it is given
Video = TypeVar("Video")


class Target:
    """One object in one video.

    Args:
        frames: The video.
        boxes: ``(T', 4)`` float32, NaN where the object is absent; T' <= T.
    """

    def __init__(self, frames: Frames, boxes: Tensor) -> None:
        self.frames = frames
        self._boxes = boxes

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
        training: What a training item is: Pairs, Clips or WholeFrames, with its settings.
        batch_size: Items of a training episode.
        augmentation: How training images are varied.
        max_frames: Cut validation and test sequences after so many frames; None keeps them whole.
        test: Another set of videos to test and predict on, in all of its own settings (``episodes``, ``max_frames``);
            None: this set's own test videos.
        repeats: How often each test sequence is tracked, every time with another seed for the tracker.
        episodes: Episodes of training; sequences of validation and test at most, None: all that there are.
        seed: Everything is a function of (seed, split, index).
        num_workers: Processes that prepare episodes.

    Raises:
        ValueError: A number is out of range; or no training video has enough frames with the object in sight.
    """

    evaluation = "one-pass"

    def __init__(
        self,
        training: TrainingItems = Pairs(),
        batch_size: int = 8,
        augmentation: VideoAugmentation = VideoAugmentation(),
        max_frames: int | None = None,
        test: TrackingData | None = None,
        repeats: int = 1,
        episodes: EpisodeCounts = EpisodeCounts(1000, 20, None),
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__(n_way=1, k_shot=1, n_query=1, episodes=episodes, seed=seed, num_workers=num_workers)
        for name, count in {"batch_size": batch_size, "max_frames": max_frames, "repeats": repeats}.items():
            if count is not None and count < 1:
                raise ValueError(f"{name} is {count} but must be at least 1")
        self.training = training
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.max_frames = max_frames
        self.test_set = test
        self.repeats = repeats
        self.limits = {"val": episodes.val, "test": episodes.test}

    @abstractmethod
    def count(self, split: str) -> int:
        """Return the number of videos of "train", "val" or "test"; no image is decoded."""

    @abstractmethod
    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a video, and choose one of its objects: by ``rng`` in training, else always the same one."""

    def choose(self, rng: np.random.Generator) -> int:
        """Draw the number of a training video."""
        return int(rng.integers(self.count("train")))

    def sequences(self, split: str) -> int:
        """Return the number of sequences of "val" or "test": all videos, or as many as ``episodes`` says."""
        count, limit = self.count(split), self.limits[split]
        return count if limit is None else min(count, limit)

    def setup(self, stage: str) -> None:
        """Count the videos of this stage, before workers start."""
        for split in STAGES.get(stage, ()):
            if self._is_elsewhere(split):
                self.test_set.setup(stage)
                self.counts[split] = self.test_set.counts[split]
            elif split in self.limits:
                self.counts[split] = self.sequences(split)
            if split == "test":
                self.counts[split] *= self.repeats
            elif split == "train" and self.count("train") < 1:
                raise ValueError(
                    f"{type(self).__name__} has no training video; a set to test on is given as the test of another: "
                    f"--data.test datamodules.{type(self).__name__}"
                )

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        if self._is_elsewhere(split):
            there = self.test_set.protocol(split)
            return {**there, "test_set": type(self.test_set).__name__, "repeats": self.repeats * there["repeats"]}
        repeats = self.repeats if split == "test" else 1
        said = {"evaluation": self.evaluation, "max_frames": self.max_frames, "repeats": repeats}
        return {**super().protocol(split), **said}

    def episode(self, split: str, index: int) -> Episode:
        """Return a training episode, or sequence ``index`` of another split."""
        if split == "train":
            return self.training.episode(self, self.rng("train", index), index)
        if split == "test" and self.repeats > 1:
            repeat, sequence = divmod(index, self.counts["test"] // self.repeats)
            return as_repeat(self._evaluated(split, sequence), index, repeat)
        return self._evaluated(split, index)

    def _evaluated(self, split: str, index: int) -> Episode:
        """Return sequence ``index``, of another set where that is the test."""
        return self.test_set.episode(split, index) if self._is_elsewhere(split) else self.sequence(split, index)

    def sequence(self, split: str, index: int) -> Episode:
        """Return one object's video as an episode."""
        target = self.target(split, index)
        frames, boxes = target.frames, target.boxes()
        if self.max_frames is not None:
            frames, boxes = frames[: self.max_frames], boxes[: self.max_frames]
        return sequence_episode(frames, boxes, index, supervised=self.evaluation == "supervised")

    def _is_elsewhere(self, split: str) -> bool:
        """Tell whether a split is another set's."""
        return self.test_set is not None and split in TEST_SPLITS


def hold_out(videos: list[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Split videos into those to train on and those to validate and test on, by a hash of the name.

    Args:
        videos: All of them.
        share: Share that is held out: none at 0, all at 1, else at least one, and one is left to train on.

    Raises:
        ValueError: The share is not in [0, 1].

    >>> [[len(part) for part in hold_out([Path(f"video_{i}") for i in range(20)], share)] for share in (0, 0.1, 1)]
    [[20, 0], [18, 2], [0, 20]]
    """
    if not 0 <= share <= 1:
        raise ValueError(f"val_share is {share} but must be in [0, 1]")
    count = min(len(videos) - 1, max(1, round(share * len(videos)))) if 0 < share < 1 else int(share) * len(videos)
    kept = set(sorted(videos, key=lambda path: zlib.crc32(path.name.encode()))[:count])
    return [p for p in videos if p not in kept], [p for p in videos if p in kept]


def as_splits(train: list[Video], val: list[Video]) -> dict[str, list[Video]]:
    """Return the videos of each split of a set whose test videos are its validation videos."""
    return {"train": train, "val": val, "test": val, "predict": val[:1]}
