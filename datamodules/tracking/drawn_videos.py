"""Videos of the drawn world: the embedded tracking data, made in code, with no download."""

from __future__ import annotations

from dataclasses import dataclass
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
from lightning_fewshot.tracking.frames import Frames
from lightning_fewshot.tracking.reading import to_frame

OPENED = 64  # planned videos kept in memory; a plan is small, its frames are drawn on demand


@dataclass(frozen=True)
class DrawnVideoSettings:
    """What a drawn video shows.

    Args:
        n_frames: Frames of a video.
        image_size: Side of a frame, in pixels.
        scale: Smallest and greatest diameter of moving objects, as a share of the side.
        distractors: Further moving objects, at most; half of them are of the target's own class.
        clutter: Objects that lie still on the ground, at most.
        speed: How fast things move: 1 is the world's own, 2 takes half the time.
    """

    n_frames: int = 60
    image_size: int = 256
    scale: tuple[float, float] = (0.12, 0.35)
    distractors: int = 2
    clutter: int = 4
    speed: float = 1.0

    def __post_init__(self) -> None:
        for name, least in {"n_frames": 1, "distractors": 0, "clutter": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"videos.{name} is {getattr(self, name)} but must be at least {least}")
        if self.speed <= 0:
            raise ValueError(f"videos.speed is {self.speed} but must be positive")


class DrawnVideos(TrackingData):
    """Objects of a drawn world that move, turn, bend, leave and are covered; classes of the splits are disjoint.

    A video is a function of (seed, split, its number). The drawn world has no end, so ``episodes`` says how
    many sequences there are.

    Args:
        n_videos: Training videos.
        videos: What a video shows.
        episodes: Training episodes of an epoch, and sequences of validation and test.
        options: See TrackingData.
    """

    data_license = "MIT, as this project, which draws it"

    def __init__(
        self,
        n_videos: int = 2000,
        videos: DrawnVideoSettings = DrawnVideoSettings(),
        episodes: EpisodeCounts = EpisodeCounts(1000, 10, 40),
        **options: Any,
    ) -> None:
        super().__init__(episodes=episodes, **options)
        if n_videos < 1:
            raise ValueError(f"n_videos is {n_videos} but must be at least 1")
        for split, limit in self.limits.items():
            if limit is None:
                raise ValueError(f"episodes.{split} is null but the drawn world has no end: say how many videos")
        self.n_videos = n_videos
        self.videos = videos

    def count(self, split: str) -> int:
        """Return how many videos are drawn."""
        return self.n_videos if split == "train" else self.limits.get(split, 1)

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Plan a video; its frames and boxes are drawn when they are asked for."""
        return DrawnTarget(DrawnFrames(self.seed, "test" if split == "predict" else split, video, self.videos))


class DrawnFrames(Frames):
    """The frames of one drawn video; only its number travels to other processes."""

    def __init__(self, seed: int, split: str, video: int, settings: DrawnVideoSettings) -> None:
        super().__init__(f"drawn_{split}_{video:04d}")
        self.key = (seed, split, video, settings)

    def __len__(self) -> int:
        return self.key[3].n_frames

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
def _plan(seed: int, split: str, video: int, settings: DrawnVideoSettings) -> Video:
    rng = episode_rng(seed, split, video, "video")
    pool = _classes(split)
    chosen = [pool[i] for i in rng.choice(len(pool), 2 + settings.clutter, replace=False)]
    moving = [chosen[int(rng.integers(2))] for _ in range(int(rng.integers(settings.distractors + 1)))]
    still = chosen[2 : 2 + int(rng.integers(settings.clutter + 1))]
    shortest, longest = Motion().period
    return draw_video(
        rng,
        chosen[0],
        settings.n_frames,
        size=settings.image_size,
        scale=settings.scale,
        distractors=moving,
        clutter=still,
        motion=Motion(period=(shortest / settings.speed, longest / settings.speed)),
    )


@lru_cache(3)
def _classes(split: str) -> list[ObjectClass]:
    return [make_class(seed) for seed in class_seeds(split)]
