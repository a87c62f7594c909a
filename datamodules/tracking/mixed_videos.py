"""Several sets of videos as one, to train on: real ones are few, drawn ones and pseudo-videos are many."""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodules.tracking.base import Target, TrackingData
from lightning_fewshot.sampling import shares_of


class MixedVideos(TrackingData):
    """Training items from several sources, each with its share; validation on their sequences in turn.

    Of a source its videos are used, and its ``episodes.val``: how many of its sequences are validated on (0: none). How
    items are drawn and cut is said once, for all of them. The test sequences are the first source's.

    Args:
        sources: Sets of videos. MetaRTT's "+COCO" row is ImageNetVID and StillVideos of "coco".
        shares: Of the training items, one a source; None: the same for each.
        options: See TrackingData.

    Raises:
        ValueError: There is no source, or the shares do not fit.
    """

    def __init__(self, sources: list[TrackingData], shares: list[float] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.sources = list(sources)
        self.shares = shares_of(sources, shares)

    def count(self, split: str) -> int:
        """Return the number of videos."""
        return len(self._in_turn(split)) if split != "train" else sum(s.count("train") for s in self.sources)

    def choose(self, rng: np.random.Generator) -> int:
        """Draw a training video: first its source, by the shares."""
        source = int(rng.choice(len(self.shares), p=self.shares))
        before = sum(s.count("train") for s in self.sources[:source])
        return before + self.sources[source].choose(rng)

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a video of the source it belongs to."""
        if split != "train":
            source, number = self._in_turn(split)[video]
            return source.target(split, number, rng)
        for source in self.sources:
            if video < source.count("train"):
                return source.target("train", video, rng)
            video -= source.count("train")
        raise IndexError(f"there is no training video {video} beyond the last")

    def protocol(self, split: str) -> dict[str, Any]:
        """Say what was mixed, for the result file."""
        names = [type(source).__name__ for source in self.sources]
        return {**super().protocol(split), "sources": names, "shares": self.shares.round(4).tolist()}

    def _in_turn(self, split: str) -> list[tuple[TrackingData, int]]:
        """Return source and number of every validation sequence, one of each source in turn; or the first source's."""
        sources = self.sources if split == "val" else self.sources[:1]
        counts = [s.sequences(split) if split in s.limits else s.count(split) for s in sources]
        return [(s, i) for i in range(max(counts)) for s, count in zip(sources, counts, strict=True) if i < count]
