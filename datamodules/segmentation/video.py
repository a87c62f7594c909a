"""One-shot video segmentation: the first frame of a sequence and its mask are the support, all other frames the query.

A class is a sequence with one object (Perazzi et al., CVPR 2016: the semi-supervised task). Training episodes are pairs
of frames of one sequence.
"""

from __future__ import annotations

from typing import Any

from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.settings import MaskRules
from lightning_fewshot.data import STAGES, EpisodeCounts
from lightning_fewshot.sampling import EpisodePlan, EpisodeSampler


class SequenceSampler(EpisodeSampler):
    """Episode i is sequence i: its first item is the support, all others are the query."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> EpisodePlan:
        """Return the plan of sequence ``index``."""
        first, *others = self.items[self.names[index]]
        return EpisodePlan((self.names[index],), ((first,),), (tuple(others),))


class VideoSegmentation(PhotoSegmentation):
    """Sequences of photos with one masked object each; read_photos lists the frames of a sequence in order.

    Args:
        root: Folder that holds the data set's folder, or that folder; None: FEWSHOT_DATA.
        rules: Which classes are asked for, and how pixels count; by default frames are measured at their own size.
        episodes: Training episodes of an epoch, and sequences to validate and to test on; None: all.
        options: See PhotoSegmentation.

    Raises:
        ValueError: ``k_shot`` or ``n_way`` is not 1: one frame shows one object.
    """

    task_protocol = "video"

    def __init__(
        self,
        root: str | None = None,
        rules: MaskRules = MaskRules(convention="later"),
        episodes: EpisodeCounts = EpisodeCounts(1000, None, None),
        **options,
    ) -> None:
        super().__init__(root, rules=rules, episodes=episodes, **options)
        for name in ("n_way", "k_shot"):
            if getattr(self, name) != 1:
                raise ValueError(f"{name} is {getattr(self, name)} but the support of a video is its first frame")

    def setup(self, stage: str) -> None:
        """Read the lists; count the sequences."""
        super().setup(stage)
        for split in STAGES[stage]:
            if split in ("val", "test") and self.counts[split] != 0:
                n_sequences = len(self.sampler(split))
                self.counts[split] = min(self.counts[split] or n_sequences, n_sequences)

    def make_sampler(self, items: dict[str, list[str]], split: str) -> SequenceSampler:
        """Return the sequences."""
        return SequenceSampler(items=items, n_way=1, k_shot=1, n_query=1, seed=self.seed, split=split)

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        return super().protocol(split) | {"n_query": None, "sampling": "sequences: all frames after the first"}
