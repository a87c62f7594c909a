"""Several sets of videos as one, to train on: real ones are few, drawn ones and pseudo-videos are many."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np

from datamodules.tracking.base import Target, TrackingData
from datamodules.tracking.drawn_videos import DrawnVideos
from datamodules.tracking.got10k import GOT10k
from datamodules.tracking.imagenet_vid import ImageNetVID
from datamodules.tracking.still_videos import StillVideos
from lightning_fewshot.data import EpisodeCounts

Source = Literal["drawn", "videos", "got10k", "imagenet_vid", "tiny_imagenet", "coco", "yolo"]
STILL_FRAMES = 12  # of a pseudo-video; a clip of MLT needs seven


class MixedVideos(TrackingData):
    """Training items from several sources, each with its share; validation on their videos in turn.

    Pseudo-videos are short and easy, so they are not validated on unless there is nothing else. The test videos are
    the first source's.

    Args:
        sources: "drawn" (embedded), "videos" (a folder of that name in GOT-10k's layout), "got10k", "imagenet_vid",
            "tiny_imagenet", "coco" or "yolo" (pseudo-videos of boxed photos). MetaRTT's "+COCO" row is
            ``[imagenet_vid, coco]``.
        shares: Of the training items, one a source; None: the same for each.
        root: Folder that holds the sets' folders; None: FEWSHOT_DATA.
        options: See TrackingData.

    Raises:
        ValueError: There is no source, or the shares do not fit.
    """

    def __init__(
        self,
        sources: list[Source] = ["drawn", "videos", "tiny_imagenet"],  # noqa: B006 (never changed; yaml shows it)
        shares: list[float] | None = None,
        root: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not sources:
            raise ValueError("sources is empty but must name at least one set of videos")
        shares = [1.0] * len(sources) if shares is None else shares
        if len(shares) != len(sources) or min(shares) < 0 or sum(shares) <= 0:
            raise ValueError(
                f"shares is {shares} but must hold a share of at least 0 for each of {len(sources)} sources"
            )
        self.names, self.root = tuple(sources), root
        self.shares = np.array(shares) / sum(shares)

    @cached_property
    def sources(self) -> list[TrackingData]:
        """The sets."""
        return [self._open(name) for name in self.names]

    def count(self, split: str) -> int:
        """Return the number of videos."""
        return len(self._videos(split)) if split != "train" else sum(s.count("train") for s in self.sources)

    def choose(self, rng: np.random.Generator) -> int:
        """Draw a training video: first its source, by the shares."""
        source = int(rng.choice(len(self.shares), p=self.shares))
        before = sum(s.count("train") for s in self.sources[:source])
        return before + int(rng.integers(self.sources[source].count("train")))

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a video of the source it belongs to."""
        if split != "train":
            source, own = self._videos(split)[video]
            return source.target(split, own, rng)
        for source in self.sources:
            if video < source.count("train"):
                return source.target("train", video, rng)
            video -= source.count("train")
        raise IndexError(f"there is no training video {video} beyond the last")

    def protocol(self, split: str) -> dict[str, Any]:
        """Say what was mixed, for the result file."""
        return {**super().protocol(split), "sources": list(self.names), "shares": self.shares.round(4).tolist()}

    def _videos(self, split: str) -> list[tuple[TrackingData, int]]:
        """Return the validation videos, one of each source in turn; or those of the first source."""
        long = [s for s in self.sources if not isinstance(s, StillVideos)] or self.sources
        used = long if split == "val" else self.sources[:1]
        found = [(rank, i, s) for i, s in enumerate(used) for rank in range(s.count(split))]
        return [(s, rank) for rank, _, s in sorted(found, key=lambda f: f[:2])]

    def _open(self, name: Source) -> TrackingData:
        options = {"seed": self.seed, "episodes": EpisodeCounts(val=self._at_most["val"] or 10, test=40)}
        if name == "drawn":
            return DrawnVideos(**options)
        if name == "imagenet_vid":
            return ImageNetVID(self.root, **options)
        if name in ("videos", "got10k"):
            return GOT10k(self.root, "videos" if name == "videos" else "GOT-10k", **options)
        return StillVideos(name, self.root, n_frames=STILL_FRAMES, **options)
