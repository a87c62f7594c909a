"""Several sets of masked photos as one, to train one-shot segmentation on more classes than any of them has."""

from __future__ import annotations

from typing import Any

from datamodules.segmentation.base import PhotoSegmentation
from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode
from lightning_fewshot.sampling import shares_of


class MixedSegmentation(EpisodicDataModule):
    """Training batches from several sources, each with its share; validation and test are the first source's.

    The classes that the first source validates or tests on are left out of the others' training: their pixels are
    background there, or void (``rules.untrained``).

    Args:
        sources: Sets of masked photos. Their sizes of images and batches should be the same.
        shares: Of the training batches, one a source; None: the same for each.
        same: Names of other sources' classes, and what the first one calls them, such as couch: sofa.

    Raises:
        ValueError: There is no source, the shares do not fit, or ``same`` is the wrong way round (on ``fit``).
    """

    def __init__(
        self,
        sources: list[PhotoSegmentation],
        shares: list[float] | None = None,
        same: dict[str, str] | None = None,
    ) -> None:
        chosen = shares_of(sources, shares)
        first = sources[0]
        super().__init__(
            n_way=first.n_way,
            k_shot=first.k_shot,
            n_query=first.n_query,
            episodes=EpisodeCounts(**{split: first.counts[split] for split in ("train", "val", "test")}),
            seed=first.seed,
            num_workers=first.num_workers,
        )
        self.sources = list(sources)
        self.shares = chosen
        self.same = same or {}
        self.counts = first.counts  # it may count them only when it is set up

    def prepare_data(self) -> None:
        """Prepare every source."""
        for source in self.sources:
            source.prepare_data()

    def setup(self, stage: str) -> None:
        """Set up the first source, and for ``fit`` the others' training."""
        self.sources[0].setup(stage)
        if stage != "fit":
            return
        splits = self.sources[0].catalog.split_classes
        evaluated = {*splits["val"], *self.sources[0].novel_names()}.difference(splits["train"])
        if turned := sorted(evaluated.intersection(self.same)):
            raise ValueError(
                f"same: {turned[0]}: {self.same[turned[0]]} begins with a class that the first source evaluates; write "
                f"the other source's name first"
            )
        names = frozenset(evaluated.union(other for other, name in self.same.items() if name in evaluated))
        for source in self.sources[1:]:
            source.left_out = names
            _ = source.pair_names

    def class_names(self) -> tuple[str, ...]:
        """Return the training classes of all sources, one after the other."""
        return tuple(f"{i}:{name}" if i else name for i, s in enumerate(self.sources) for name in s.class_names())

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, and what was mixed in training."""
        names = [type(source).__name__ for source in self.sources]
        return self.sources[0].protocol(split) | {"sources": names, "shares": self.shares.round(4).tolist()}

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index``; a training batch is one of the source drawn for it."""
        if split != "train":
            return self.sources[0].episode(split, index)
        number = int(self.rng("train", index, "source").choice(len(self.shares), p=self.shares))
        episode = self.sources[number].episode("train", index)
        before = sum(len(source.class_names()) for source in self.sources[:number])
        return episode._replace(class_ids=tuple(before + i for i in episode.class_ids))
