"""Annotated photos as few-shot episodes: what detection and segmentation share. It decodes no image."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from datamodules.images.reading import SkippedItems
from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.sampling import EpisodePlan, EpisodeSampler, episode_rng, read_episodes


class AnnotatedPhoto(Protocol):
    """What every kind of photo has: a unique name, the classes that it shows, and whether training may see it."""

    name: str
    classes: tuple[str, ...]
    held_out: bool


class PhotoEpisodes(EpisodicDataModule):
    """Episodes of annotated photos: splits of classes, photos held out, plans of episodes.

    Training uses photos that show a training class; evaluation episodes use no training photo.

    Args:
        batch_size: Photos of a training batch.
        mirror: Mirror training photos with probability one half.
        color: Color augmentation in training.
        val_classes: Classes kept for validation, drawn by ``seed`` from the training ones. 0: validate on
            held-out photos of the training classes.
        held_out: Fraction of photos kept out of training, beyond those that the data set itself keeps out.
        eval_classes: "novel": test on the novel classes; "seen": on held-out photos of the training classes.
        small_classes: What to do with an evaluated class that has too few photos for an episode: "error", or "drop":
            leave it out, and list it in a warning.
        episodes_file: A list of test episodes to use as it is; items are photo names.
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
        batch_size: int = 2,
        mirror: bool = True,
        color: bool = True,
        val_classes: int = 0,
        held_out: float = 0.0,
        eval_classes: Literal["novel", "seen"] = "novel",
        small_classes: Literal["error", "drop"] = "error",
        episodes_file: str | None = None,
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
        if not 0 <= held_out < 1:
            raise ValueError(f"held_out is {held_out} but must be at least 0 and below 1")
        self.batch_size, self.mirror, self.color = batch_size, mirror, color
        self.val_classes, self.held_out, self.eval_classes = val_classes, held_out, eval_classes
        self.small_classes, self.episodes_file = small_classes, episodes_file
        self._samplers: dict[str, EpisodeSampler] = {}
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    @abstractmethod
    def read_photos(self) -> Sequence[AnnotatedPhoto]:
        """Read all annotations; no image is decoded."""

    @abstractmethod
    def novel_names(self) -> Sequence[str]:
        """Return the classes kept for testing."""

    def check_named(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the classes that a user named, after checking that photos show them."""
        unknown = sorted(set(names).difference(self.shown_classes))
        if unknown:
            raise ValueError(
                f"novel_classes has {unknown[0]!r} but the data has {', '.join(sorted(self.shown_classes))}"
            )
        return tuple(names)

    def base_names(self) -> Sequence[str]:
        """Return the classes for training and validation: all others."""
        return sorted(self.shown_classes.difference(self.novel_names()))

    def setup(self, stage: str) -> None:
        """Read the annotations and check the splits of this stage, before workers start."""
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            if split == "train":
                _ = self.training_names
            elif self.counts[split] and not (split == "test" and self.plans):
                self._sampler(split)

    def class_names(self) -> tuple[str, ...]:
        """Return the training classes, sorted."""
        return self.split_classes["train"]

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        more = {"eval_classes": self.eval_classes, "episodes_file": self.episodes_file}
        return {**super().protocol(split), **more, "classes": self._count(split)}

    def _count(self, split: str) -> int:
        names = self._samplers[split].names if split in self._samplers else self.split_classes.get(split, ())
        return len(names)

    @cached_property
    def photos(self) -> dict[str, AnnotatedPhoto]:
        """All annotated photos by name."""
        return {photo.name: photo for photo in self.read_photos()}

    @cached_property
    def shown_classes(self) -> frozenset[str]:
        """The classes that some photo shows."""
        return frozenset(name for photo in self.photos.values() for name in photo.classes)

    @cached_property
    def split_classes(self) -> dict[str, tuple[str, ...]]:
        """The classes of each split, sorted; disjoint but for evaluation on seen classes."""
        base, novel = self._shown(self.base_names()), self._shown(self.novel_names())
        if self.val_classes and self.val_classes >= len(base):
            raise ValueError(f"val_classes is {self.val_classes} but there are {len(base)} classes that are not novel")
        drawn = episode_rng(self.seed, "classes", 0).choice(len(base), self.val_classes, replace=False) if base else ()
        val = {base[i] for i in drawn}
        train = tuple(name for name in base if name not in val)
        test = train if self.eval_classes == "seen" else tuple(novel)
        return {"train": train, "val": tuple(sorted(val)) or train, "test": test}

    @cached_property
    def training_names(self) -> tuple[str, ...]:
        """The photos to train on: they show a training class and are not held out."""
        classes = set(self.split_classes["train"])
        names = tuple(p.name for p in self.photos.values() if not self._held_out(p) and classes.intersection(p.classes))
        if not names:
            raise ValueError(f"split 'train' has {len(classes)} classes and no photo: {self._advice()}")
        return names

    @cached_property
    def plans(self) -> list[EpisodePlan] | None:
        """The fixed test episodes, if a file of them is given."""
        plans = None if self.episodes_file is None else self.read_plans(self.episodes_file)
        if plans is not None:
            self.counts["test"] = min(self.counts["test"], len(plans))
        return plans

    def read_plans(self, path: str) -> list[EpisodePlan]:
        """Read a list of test episodes and check that the photos exist."""
        plans = read_episodes(path)
        for i, plan in enumerate(plans):
            lacking = [n for part in plan[1:] for names in part for n in names if n not in self.photos]
            lacking += [c for c in plan.classes if c not in self.split_classes["test"]]
            if lacking:
                raise ValueError(f"episode {i} of {path} names {lacking[0]!r}, which split 'test' lacks")
        return plans

    def test_dataloader(self):
        """Return this rank's test episodes: no more than a given list has."""
        _ = self.plans
        return super().test_dataloader()

    def _advice(self) -> str:
        return "check the novel classes and held_out"

    def _shown(self, names: Sequence[str]) -> list[str]:
        """Return the classes that some photo shows, sorted; warn of others."""
        skipped = SkippedItems()
        for name in sorted(set(names).difference(self.shown_classes)):
            skipped.add(name, "no photo")
        skipped.warn(f"classes of {type(self).__name__}")
        return sorted(self.shown_classes.intersection(names))

    def _held_out(self, photo: AnnotatedPhoto) -> bool:
        share = zlib.crc32(f"{self.seed} {photo.name}".encode()) / 2**32
        return photo.held_out or share < self.held_out

    def _plan(self, split: str, index: int) -> EpisodePlan:
        fixed = split == "test" and self.plans is not None
        return self.plans[index] if fixed else self._sampler(split)[index]

    def _sampler(self, split: str) -> EpisodeSampler:
        if split not in self._samplers:
            items = self._evaluated(split)
            if self.small_classes == "drop":
                items = self._large(items)
            self._samplers[split] = self._make_sampler(items, split)
        return self._samplers[split]

    def _evaluated(self, split: str) -> dict[str, list[str]]:
        """Return the photos that evaluation may use, of each class of a split: none that training sees."""
        training = set(self.training_names) if self.split_classes["train"] else set()
        items: dict[str, list[str]] = {name: [] for name in self.split_classes[split]}
        for photo in self.photos.values():
            for name in () if photo.name in training else sorted(set(photo.classes).intersection(items)):
                items[name].append(photo.name)
        return items

    def _make_sampler(self, items: dict[str, list[str]], split: str) -> EpisodeSampler:
        return EpisodeSampler(items, self.n_way, self.k_shot, self.n_query, self.seed, split)

    def _large(self, items: dict[str, list[str]]) -> dict[str, list[str]]:
        """Leave out the classes that have too few photos for an episode, and list them in a warning."""
        need, skipped = self.k_shot + self.n_query, SkippedItems()
        for name, photos in items.items():
            if len(photos) < need:
                skipped.add(name, f"{len(photos)} photos of {need}")
        skipped.warn("small classes")
        return {name: photos for name, photos in items.items() if len(photos) >= need}

    def _permutation(self, epoch: int, total: int | None = None) -> np.ndarray:
        """Return the order in which a pass walks through ``total`` photos; None: all that training uses."""
        total = len(self.training_names) if total is None else total
        if (self._order[0], len(self._order[1])) != (epoch, total):
            self._order = (epoch, self.rng("train", epoch, "order").permutation(total))
        return self._order[1]
