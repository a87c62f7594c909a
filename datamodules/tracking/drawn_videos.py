"""Videos of the drawn world: the embedded tracking data, made in code, with no download."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.tracking.base import Target, TrackingData
from datamodules.world.appearance import ObjectClass, class_seeds, make_class
from datamodules.world.motion import Motion
from datamodules.world.video import Video, draw_video
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.sampling import episode_rng
from lightning_fewshot.tracking.frames import Frames, to_frame

OPENED = 64  # planned videos kept in memory; a plan is small, its frames are drawn on demand


class DrawnVideos(TrackingData):
    """Objects of a drawn world that move, turn, bend, leave and are covered; classes of the splits are disjoint.

    A video is a function of (seed, split, its number). The drawn world has no end, so ``episodes`` says how
    many sequences there are.

    Args:
        n_videos: Training videos.
        n_frames: Frames of a video.
        image_size: Side of a frame, in pixels.
        scale: Smallest and greatest diameter of moving objects, as a share of the side.
        distractors: Further moving objects, at most; half of them are of the target's own class.
        clutter: Objects that lie still on the ground, at most.
        speed: How fast things move: 1 is the world's own, 2 takes half the time.
        episodes: Training episodes of an epoch, and sequences of validation and test.
        options: See TrackingData.
    """

    def __init__(
        self,
        n_videos: int = 2000,
        n_frames: int = 60,
        image_size: int = 256,
        scale: tuple[float, float] = (0.12, 0.35),
        distractors: int = 2,
        clutter: int = 4,
        speed: float = 1.0,
        episodes: EpisodeCounts = EpisodeCounts(1000, 10, 40),
        **options: Any,
    ) -> None:
        super().__init__(episodes=episodes, **options)
        if n_videos < 1 or n_frames < 1:
            raise ValueError(f"n_videos and n_frames must be at least 1, got {n_videos} and {n_frames}")
        if speed <= 0:
            raise ValueError(f"speed is {speed} but must be positive")
        self.n_videos, self.n_frames, self.image_size, self.scale = n_videos, n_frames, image_size, scale
        self.distractors, self.clutter, self.speed = distractors, clutter, speed

    def count(self, split: str) -> int:
        """Return how many videos are drawn."""
        return self.n_videos if split == "train" else self._at_most.get(split, 1)

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Plan a video; its frames and boxes are drawn when they are asked for."""
        settings = (self.n_frames, self.image_size, self.scale, self.distractors, self.clutter, self.speed)
        return DrawnTarget(DrawnFrames(self.seed, "test" if split == "predict" else split, video, settings))


class DrawnFrames(Frames):
    """The frames of one drawn video; only its number travels to other processes."""

    def __init__(self, seed: int, split: str, video: int, settings: tuple) -> None:
        super().__init__(f"drawn_{split}_{video:04d}")
        self.key = (seed, split, video, settings)

    def __len__(self) -> int:
        return self.key[3][0]

    def frame(self, t: int) -> Tensor:
        """Draw frame ``t``."""
        return to_frame(_plan(*self.key).frame(t).image)


class DrawnTarget(Target):
    """The object that a drawn video was planned around; one box costs 1.5 ms."""

    def __init__(self, frames: DrawnFrames) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def box(self, t: int) -> Tensor:
        """Find the box of frame ``t``, NaN where the object is not visible."""
        return torch.from_numpy(_plan(*self.frames.key).truth(t)[0])

    def boxes(self) -> Tensor:
        """Find all boxes."""
        return torch.from_numpy(_plan(*self.frames.key).boxes)


@lru_cache(OPENED)
def _plan(seed: int, split: str, video: int, settings: tuple) -> Video:
    n_frames, size, scale, n_distractors, n_clutter, speed = settings
    rng = episode_rng(seed, split, video, "video")
    pool = _classes(split)
    chosen = [pool[i] for i in rng.choice(len(pool), 2 + n_clutter, replace=False)]
    moving = [chosen[int(rng.integers(2))] for _ in range(int(rng.integers(n_distractors + 1)))]
    still = chosen[2 : 2 + int(rng.integers(n_clutter + 1))]
    shortest, longest = Motion().period
    motion = Motion(period=(shortest / speed, longest / speed))
    return draw_video(
        rng, chosen[0], n_frames, size=size, scale=scale, distractors=moving, clutter=still, motion=motion
    )


@lru_cache(3)
def _classes(split: str) -> list[ObjectClass]:
    return [make_class(seed) for seed in class_seeds(split)]
