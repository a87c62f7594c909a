"""Photos with class masks as few-shot segmentation episodes. A data set adds one file that says how to read them.

OSLSM (Shaban et al., BMVC 2017), sections 4.3 and 5, is where the sampling comes from.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_info

from datamodules.images.augmentation import jitter_colors, random_part
from datamodules.images.mask_reading import resize_pair
from datamodules.images.photos import PhotoEpisodes
from datamodules.images.reading import SkippedItems
from datamodules.segmentation.entries import EntrySampler
from datamodules.segmentation.masked_photo import Labelled, MaskedPhoto, ScaledPhotos, as_examples, value_table
from datamodules.segmentation.settings import N_FOLDS, FoldSplits, MaskedImages, MaskRules
from lightning_fewshot.data import STAGES, EpisodeCounts
from lightning_fewshot.episodes import VOID, Episode
from lightning_fewshot.sampling import EpisodeSampler


class PhotoSegmentation(PhotoEpisodes):
    """Few-shot segmentation on photos with class masks.

    A training episode is a batch of pairs: photos that show a training class, one of their classes drawn for each, and
    ``train_shots`` other photos of that class (section 4.3). What is no training class is background, unless
    ``untrained`` says otherwise.

    A test episode is a query photo, one of its novel classes, and ``k_shot`` other photos of that class (``n_way`` 1,
    ``n_query`` 1); the entries (photo, class) are walked through in a random order, so that classes count by their
    photos.

    Args:
        root: Folder that holds the data set's folder, or that folder; None: FEWSHOT_DATA.
        splits: Which classes and photos train, validate and test.
        images: How photos are scaled and augmented.
        rules: Which classes are asked for, and how pixels count.
        n_way: Classes of a validation or test episode.
        n_query: Query photos of each class.
        episodes: Episodes of training, validation and test.
        options: See PhotoEpisodes.

    Raises:
        ValueError: A fold or class that does not exist, a class with too few photos, or a bad mask.
    """

    interleaved = False  # every fourth class is a fold, not a quarter of them in a row
    task_protocol = "episode"  # what evaluation episodes are: see Episode

    def __init__(
        self,
        root: str | None = None,
        splits: FoldSplits = FoldSplits(),
        images: MaskedImages = MaskedImages(),
        rules: MaskRules = MaskRules(),
        n_way: int = 1,
        n_query: int = 1,
        episodes: EpisodeCounts = EpisodeCounts(1000, 50, 1000),
        **options,
    ) -> None:
        super().__init__(root, splits=splits, n_way=n_way, n_query=n_query, episodes=episodes, **options)
        self.images = images
        self.rules = rules
        self.photos = ScaledPhotos(self.read_mask, images.size)

    # what a data set says ---------------------------------------------------------------------------------------

    @abstractmethod
    def all_names(self) -> Sequence[str]:
        """Return all classes; label 1 + i of a mask is the i-th."""

    @abstractmethod
    def read_photos(self) -> list[MaskedPhoto]:
        """Read all annotations; no photo is decoded."""

    @abstractmethod
    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return ``(H, W)`` int16: 0 background, 1 + i class i of ``all_names``, -1 void."""

    def fold_names(self, fold: int) -> Sequence[str]:
        """Return the classes of a fold: a quarter of all, in a row as in PASCAL-5i, or interleaved as in COCO-20i."""
        names = list(self.all_names())
        if self.interleaved:
            return names[fold::N_FOLDS]
        return [str(name) for name in np.array_split(names, N_FOLDS)[fold]]

    # what follows -----------------------------------------------------------------------------------------------

    def benchmark_names(self) -> Sequence[str]:
        """Return the classes of the fold that is kept for testing."""
        shown, fold = self.catalog.shown_classes, self.splits.fold
        if shown and not shown.intersection(self.fold_names(fold)):
            others = [str(i) for i in range(N_FOLDS) if shown.intersection(self.fold_names(i))]
            raise ValueError(
                f"fold is {fold} but no photo here shows {', '.join(self.fold_names(fold))}: "
                f"folds with photos are {', '.join(others)}"
            )
        return self.fold_names(fold)

    def seen_names(self, areas: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
        """Return the classes of which a photo shows ``min_pixels`` (and one at least).

        Args:
            areas: Pixels of label i at place i.
            names: All classes; label 1 + i is the i-th.
        """
        return tuple(names[i - 1] for i in range(1, len(areas)) if areas[i] >= max(1, self.rules.min_pixels))

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        paper, sampler = self.rules.convention == "paper", self._samplers.get(split)
        return {
            **super().protocol(split),
            "distinct_pairs": len(sampler) if isinstance(sampler, EntrySampler) else None,
            "fold": self.splits.fold if self.splits.novel_classes is None else None,
            "novel_classes": list(self.catalog.split_classes["test"]),
            "convention": self.rules.convention,
            "void": "background" if paper else "ignore",
            "query_size": self.images.size if paper else "own",
            "sampling": "entries (photo, class), walked in random order" if self.n_way == 1 else "classes, uniformly",
            "min_pixels": self.rules.min_pixels,
        }

    def setup(self, stage: str) -> None:
        """Read the annotations and check the splits of this stage, before workers start."""
        super().setup(stage)
        for split in STAGES[stage]:
            self._limit(split)
        if stage == "fit":
            _ = self.pair_names

    def _limit(self, split: str) -> None:
        """Evaluate no pair twice: cut the number of episodes to that of the distinct pairs, and say so."""
        sampler, count = self._samplers.get(split), self.counts[split]
        if isinstance(sampler, EntrySampler) and count is not None and count > len(sampler):
            self.counts[split] = len(sampler)
            rank_zero_info(
                f"episodes.{split} is {count} but there are {len(sampler)} distinct pairs: each is asked once"
            )

    def items(self, split: str) -> dict[str, list[str]]:
        """Return the photos of each class of a split; only those for evaluation where the data set has some."""
        items, photos = super().items(split), self.catalog.photos
        if any(photo.evaluation_only for photo in photos.values()):
            items = {c: [name for name in names if photos[name].evaluation_only] for c, names in items.items()}
        return items

    def make_sampler(self, items: dict[str, list[str]], split: str) -> EpisodeSampler:
        """Return a walk through the entries of one-way episodes, or a sampler of classes."""
        if self.n_way == 1 and self.n_query == 1:
            return EntrySampler(items=items, n_way=1, k_shot=self.k_shot, n_query=1, seed=self.seed, split=split)
        return super().make_sampler(items, split)

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val" or "test"."""
        return self._pairs(index) if split == "train" else self._task(split, index)

    # training ---------------------------------------------------------------------------------------------------

    @cached_property
    def pair_photos(self) -> dict[str, list[str]]:
        """The training photos of each training class that has enough of them for a pair."""
        shots, skipped = self.rules.train_shots, SkippedItems()
        photos: dict[str, list[str]] = {}
        for name in self.class_names():
            photos[name] = [n for n in self.training_names if name in self.catalog.photos[n].classes]
            if len(photos[name]) <= shots:
                skipped.add(name, f"{len(photos.pop(name))} training photos of {shots + 1}")
        skipped.warn("training classes as the asked one")
        if not photos:
            raise ValueError(f"no training class has more than train_shots = {shots} photos")
        return photos

    @cached_property
    def pair_names(self) -> tuple[str, ...]:
        """The training photos that show a class of which there are enough photos for a pair."""
        kept = set(self.pair_photos)
        return tuple(name for name in self.training_names if kept.intersection(self.catalog.photos[name].classes))

    def _pairs(self, index: int) -> Episode:
        queries, names, shots = self._drawn_pairs(index)
        rng, n_shots = self.rng("train", index, "augmentation"), self.rules.train_shots
        asked = [self.class_labels[name] for name in names]
        query = [self._augmented(p, n, rng) for p, n in zip(queries, asked, strict=True)]
        support = [self._augmented(p, n, rng) for p, n in zip(shots, np.repeat(asked, n_shots), strict=True)]
        seen = np.unique(np.concatenate([np.unique(labels) for _, labels in (*query, *support)]))
        classes = tuple(name for name in self.class_names() if self.class_labels[name] in seen)
        table = self._training_table(classes)
        labels = torch.tensor([classes.index(name) for name in names])
        examples = as_examples(
            read=support, tables=[table] * len(support), labels=labels.repeat_interleave(n_shots), photos=shots
        )
        return Episode(
            support=examples._replace(query_index=torch.arange(len(queries)).repeat_interleave(n_shots)),
            query=as_examples(read=query, tables=[table] * len(query), labels=labels, photos=queries),
            classes=classes,
            index=index,
            class_ids=tuple(self.class_names().index(name) for name in classes),
            protocol="pairs",
        )

    def _drawn_pairs(self, index: int) -> tuple[list[MaskedPhoto], list[str], list[MaskedPhoto]]:
        """Draw the queries of a batch, the class that each is asked for, and its shots."""
        rng, photos = self.rng("train", index), self.catalog.photos
        queries = self.training_batch(index, self.pair_names)
        names, shots = [], []
        for photo in queries:
            names.append(str(rng.choice([c for c in photo.classes if c in self.pair_photos])))
            others = [other for other in self.pair_photos[names[-1]] if other != photo.name]
            shots += [photos[other] for other in rng.choice(others, self.rules.train_shots, replace=False)]
        return queries, names, shots

    def _training_table(self, classes: Sequence[str]) -> np.ndarray:
        values = {self.class_labels[name]: 1 + i for i, name in enumerate(classes)}
        if self.rules.untrained == "void":
            values |= {number: VOID for name, number in self.class_labels.items() if name not in self.class_names()}
        return self.table(values)

    def _augmented(self, photo: MaskedPhoto, asked: int, rng: np.random.Generator) -> Labelled:
        """Read a photo and its labels for training, where label ``asked`` stays in sight."""
        image, labels = self.photos.read_scaled(photo)
        if self.images.crop < 1:
            whole = labels.shape
            image, labels = random_part(image=image, labels=labels, wanted=asked, least=self.images.crop, rng=rng)
            if self.images.size is not None and labels.shape != whole:
                image, labels = resize_pair(image, labels, self.images.size)
        if self.images.mirror and rng.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        image, labels = np.ascontiguousarray(image), np.ascontiguousarray(labels)
        return (jitter_colors(image, rng) if self.images.color else image), labels

    # evaluation -------------------------------------------------------------------------------------------------

    def _task(self, split: str, index: int) -> Episode:
        plan, photos = self.plan(split, index), self.catalog.photos
        shots = [(photos[n], c) for c, names in enumerate(plan.support) for n in names]
        asked = [(photos[n], c) for c, names in enumerate(plan.query) for n in names]
        read = self.photos.read_scaled if self.rules.convention == "paper" else self.photos.read
        numbers = [self.class_labels[name] for name in plan.classes]
        table = self.table({number: 1 + c for c, number in enumerate(numbers)})
        labels = torch.tensor([c for _, c in asked]) if len(numbers) == 1 else None
        query = [photo for photo, _ in asked]
        names = self.catalog.split_classes[split]
        return Episode(
            support=self.shot_examples(shots, plan.classes),
            query=as_examples(
                read=[read(photo) for photo in query], tables=[table] * len(query), labels=labels, photos=query
            ),
            classes=plan.classes,
            index=index,
            class_ids=tuple(names.index(name) for name in plan.classes),
            protocol=self.task_protocol,
        )

    def shot_examples(self, shots: Sequence[tuple[MaskedPhoto, int]], classes: Sequence[str]):
        """Return support examples of photos with the place of their class in ``classes``; a shot shows it alone."""
        read = [self.photos.read_scaled(photo) for photo, _ in shots]
        tables = [self.table({self.class_labels[classes[c]]: 1 + c}) for _, c in shots]
        return as_examples(
            read=read, tables=tables, labels=torch.tensor([c for _, c in shots]), photos=[photo for photo, _ in shots]
        )

    def table(self, values: dict[int, int]) -> np.ndarray:
        """Return the value, in an episode's masks, of every label."""
        return value_table(values, len(self.all_names()), 0 if self.rules.convention == "paper" else VOID)

    @cached_property
    def class_labels(self) -> dict[str, int]:
        """The label of each class."""
        return {name: 1 + i for i, name in enumerate(self.all_names())}
