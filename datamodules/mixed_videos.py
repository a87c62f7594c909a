"""Several sets of videos to train on at once: real ones, pseudo-videos of photos, drawn ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from datamodules.drawn_videos import DrawnVideos
from datamodules.got10k import GOT10k
from datamodules.imagenet_vid import ImageNetVID
from datamodules.still_videos import StillVideos
from datamodules.tracking import Target, TrackingData

Part = Literal["drawn", "videos", "got10k", "imagenet_vid", "tiny_imagenet", "coco", "yolo"]


class MixedVideos(TrackingData):
    """Training items come from each set equally often; validation and test are the first set's.

    MetaRTT's "+COCO" row is ``sets: [imagenet_vid, coco]``.

    Args:
        sets: "drawn" (embedded), "videos" (a folder ``videos`` in GOT-10k's layout), "got10k", "imagenet_vid", or
            pseudo-videos of "tiny_imagenet", "coco" or "yolo".
        root: Folder that holds the sets' folders; None: FEWSHOT_DATA.
        options: See TrackingData.

    Raises:
        ValueError: There is no set.
    """

    def __init__(self, sets: Sequence[Part] = ("drawn",), root: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        if not sets:
            raise ValueError("sets is empty but must name at least 1 set of videos")
        self.sets, self.root = list(sets), root

    @cached_property
    def parts(self) -> list[TrackingData]:
        """The sets."""
        return [_open(name, self.root, self.seed) for name in self.sets]

    def count(self, split: str) -> int:
        """Return the number of training videos of all sets, or of the first set's others."""
        return sum(part.count("train") for part in self.parts) if split == "train" else self.parts[0].count(split)

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a video: the first set's have the first numbers."""
        if split != "train":
            return self.parts[0].target(split, video, rng)
        for part in self.parts:
            if video < part.count("train"):
                return part.target("train", video, rng)
            video -= part.count("train")
        raise IndexError(f"video {video} is beyond the last one")

    def protocol(self, split: str) -> dict[str, Any]:
        """Say what was trained on, for the result file."""
        return {**super().protocol(split), "train_on": self.sets}

    def _draw(self, rng: np.random.Generator, n: int, but: Any = ()) -> tuple[int, Target, list[int]]:
        """Draw a set, then a video of it that is not in ``but``."""
        chosen = int(rng.integers(len(self.parts)))
        before = sum(part.count("train") for part in self.parts[:chosen])
        part = self.parts[chosen]
        part.min_side = self.min_side
        used = {video - before for video in ([but] if isinstance(but, int) else but)}
        video, target, times = part._draw(rng, n, used)
        return before + video, target, times


def _open(name: Part, root: str | None, seed: int) -> TrackingData:
    if name == "drawn":
        return DrawnVideos(seed=seed)
    if name == "imagenet_vid":
        return ImageNetVID(root, seed=seed)
    if name in ("videos", "got10k"):
        return GOT10k(root, "videos" if name == "videos" else "GOT-10k", seed=seed)
    return StillVideos(name, root, seed=seed)
