"""Annotated photos as few-shot episodes: what detection and segmentation share. It decodes no image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from datamodules.images.catalog import ALL_CLASSES, AnnotatedPhoto, Names, PhotoCatalog, PhotoSplits
from datamodules.images.reading import SkippedItems
from lightning_fewshot.data import STAGES, EpisodeCounts, EpisodicDataModule
from lightning_fewshot.sampling import EpisodePlan, EpisodeSampler


class PhotoEpisodes(EpisodicDataModule):
    """Episodes of annotated photos: a catalogue of photos, and a sampler of episodes for each evaluated split.

    Args:
        root: Folder that holds the data set's folder, or that folder; None: FEWSHOT_DATA.
        batch_size: Photos of a training batch.
        splits: Which classes and photos train, validate and test.
        n_way: Classes of a validation or test episode.
        k_shot: Support photos of each class.
        n_query: Query photos of each class.
        episodes: Episodes of training, validation and test.
        seed: Everything is a function of (seed, split, index).
        num_workers: Processes that prepare episodes.

    Raises:
        FileNotFoundError: There is no such data, on first use; says what to download.
        ValueError: ``n_way`` above the classes of a split, a class with too few photos, or a truncated photo.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 2,
        splits: PhotoSplits = PhotoSplits(),
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 10,
        episodes: EpisodeCounts = EpisodeCounts(1000, 20, 500),
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__(
            n_way=n_way, k_shot=k_shot, n_query=n_query, episodes=episodes, seed=seed, num_workers=num_workers
        )
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size} but must be at least 1")
        self.root = root
        self.batch_size = batch_size
        self.splits = splits
        self._samplers: dict[str, EpisodeSampler] = {}
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    # what a data set says ---------------------------------------------------------------------------------------

    left_out: frozenset[str] = frozenset()  # classes that another set evaluates, where several train together

    @abstractmethod
    def read_photos(self) -> Sequence[AnnotatedPhoto]:
        """Read all annotations; no image is decoded."""

    @abstractmethod
    def benchmark_names(self) -> Names:
        """Return the classes that the data set's benchmark keeps for testing."""

    def novel_names(self) -> Names:
        """Return the classes kept for testing: those that ``splits`` names, else the benchmark's."""
        named = self.splits.novel_classes
        if named == ALL_CLASSES:
            return sorted(self.catalog.shown_classes)
        return self.benchmark_names() if named is None else self.catalog.named(named)

    def base_names(self) -> Names:
        """Return the classes for training and validation: all others but those that are left out."""
        return sorted(self.catalog.shown_classes.difference(self.novel_names(), self.left_out))

    def advice(self) -> str:
        """Say what to do where no photo is left to train on."""
        return "check the novel classes and held_out"

    # what follows -----------------------------------------------------------------------------------------------

    @cached_property
    def catalog(self) -> PhotoCatalog:
        """All photos and their splits."""
        return PhotoCatalog(
            self.read_photos(),
            base_names=self.base_names,
            novel_names=self.novel_names,
            splits=self.splits,
            seed=self.seed,
            title=type(self).__name__,
        )

    def setup(self, stage: str) -> None:
        """Read the annotations and check the splits of this stage, before workers start."""
        for split in STAGES[stage]:
            if split == "train":
                _ = self.training_names
            elif split != "predict" and self.counts[split] != 0 and not (split == "test" and self.plans):
                self.sampler(split)

    @property
    def training_names(self) -> tuple[str, ...]:
        """The photos to train on."""
        names = self.catalog.training_names
        if not names:
            n_classes = len(self.catalog.split_classes["train"])
            raise ValueError(f"split 'train' has {n_classes} classes and no photo: {self.advice()}")
        return names

    def class_names(self) -> tuple[str, ...]:
        """Return the training classes, sorted."""
        return self.catalog.split_classes["train"]

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        names = self._samplers[split].names if split in self._samplers else self.catalog.split_classes.get(split, ())
        more = {"eval_classes": self.splits.eval_classes, "episodes_file": self.splits.episodes_file}
        return {**super().protocol(split), **more, "classes": len(names)}

    @cached_property
    def plans(self) -> list[EpisodePlan] | None:
        """The fixed test episodes, if a file of them is given."""
        if self.splits.episodes_file is None:
            return None
        plans = self.read_plans(self.splits.episodes_file)
        self.counts["test"] = len(plans) if self.counts["test"] is None else min(self.counts["test"], len(plans))
        return plans

    def read_plans(self, path: str) -> list[EpisodePlan]:
        """Read a list of test episodes and check that the photos exist."""
        return self.catalog.read_plans(path)

    def test_dataloader(self):
        """Return this rank's test episodes: no more than a given list has."""
        _ = self.plans
        return super().test_dataloader()

    def plan(self, split: str, index: int) -> EpisodePlan:
        """Return the classes and photos of an evaluation episode."""
        fixed = split == "test" and self.plans is not None
        return self.plans[index] if fixed else self.sampler(split)[index]

    def sampler(self, split: str) -> EpisodeSampler:
        """Return the sampler of an evaluated split's episodes."""
        if split not in self._samplers:
            items = self.items(split)
            if self.splits.small_classes == "drop":
                items = _large_classes(items, self.k_shot + self.n_query)
            self._samplers[split] = self.make_sampler(items, split)
        return self._samplers[split]

    def items(self, split: str) -> dict[str, list[str]]:
        """Return the photos of each class that episodes of an evaluated split are drawn from."""
        if self.catalog.split_classes["train"]:
            _ = self.training_names  # an error where all photos are held out
        return self.catalog.photos_of(split)

    def make_sampler(self, items: dict[str, list[str]], split: str) -> EpisodeSampler:
        """Return the sampler of these photos."""
        return EpisodeSampler(
            items=items, n_way=self.n_way, k_shot=self.k_shot, n_query=self.n_query, seed=self.seed, split=split
        )

    def training_batch(self, index: int, names: Sequence[str]) -> list[Any]:
        """Return the photos of a training batch: they walk through ``names`` in an order drawn anew for each pass."""
        photos = []
        for place in range(index * self.batch_size, (index + 1) * self.batch_size):
            turn, step = divmod(place, len(names))
            photos.append(self.catalog.photos[names[self._pass_order(turn, len(names))[step]]])
        return photos

    def _pass_order(self, turn: int, total: int) -> np.ndarray:
        if (self._order[0], len(self._order[1])) != (turn, total):
            self._order = (turn, self.rng("train", turn, "order").permutation(total))
        return self._order[1]


def _large_classes(items: dict[str, list[str]], needed: int) -> dict[str, list[str]]:
    """Leave out the classes that have too few photos for an episode, and list them in a warning."""
    skipped = SkippedItems()
    for name, photos in items.items():
        if len(photos) < needed:
            skipped.add(name, f"{len(photos)} photos of {needed}")
    skipped.warn("small classes")
    return {name: photos for name, photos in items.items() if len(photos) >= needed}
