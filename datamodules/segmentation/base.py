"""Photos with class masks as few-shot segmentation episodes. A data set adds one file that says how to read them.

OSLSM (Shaban et al., BMVC 2017), sections 4.3 and 5, is where the sampling comes from.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from datamodules.images.augmentation import jitter_colours, random_part
from datamodules.images.mask_reading import UNKNOWN, check_sizes, resize_pair
from datamodules.images.photos import PhotoEpisodes
from datamodules.images.reading import SkippedItems, read_photo
from datamodules.segmentation.control import check_one_way, with_other_support
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.episodes import VOID, Episode, Examples
from lightning_fewshot.sampling import EpisodePlan, EpisodeSampler

Convention = Literal["paper", "later"]
Untrained = Literal["background", "void"]
KEPT = 2**28  # bytes of scaled photos that a process keeps, so that a small data set is decoded once


class MaskedPhoto(NamedTuple):
    """One image file with a class mask.

    Args:
        name: What it is called in episode lists and results; unique in the data set.
        path: The file.
        mask: What the data set reads the mask from: a file, or annotations.
        classes: Classes of which enough is seen to be asked for.
        held_out: Never used in training. Where a data set has such photos, evaluation uses no others.
    """

    name: str
    path: Path
    mask: Any
    classes: tuple[str, ...]
    held_out: bool = False


class PhotoSegmentation(PhotoEpisodes):
    """Few-shot segmentation on photos with class masks.

    A training episode is a batch of pairs: photos that show a training class, one of their classes drawn for each, and
    ``train_shots`` other photos of that class (section 4.3). What is no training class is background, unless
    ``untrained`` says otherwise.

    A test episode is a query photo, one of its novel classes, and ``k_shot`` other photos of that class (``n_way`` 1,
    ``n_query`` 1); the entries (photo, class) are walked through in a random order, so that classes count by their
    photos.

    Args:
        fold: Which fold of the classes is kept for testing, from 0 to 3.
        novel_classes: Names of the classes kept for testing instead; ["all"] leaves none to train on.
        convention: "paper": photos and masks are scaled to ``image_size`` and measured so, void pixels are background.
            "later": query photos and masks keep their size, and void pixels do not count.
        image_size: Side that photos are scaled to (under "later" only those of the support and of training), in
            pixels; None: their own size.
        min_pixels: A class is asked for where it covers as many pixels at least; 2048 are two cells of stride 32, near
            what the authors' code asks for.
        train_shots: Support photos of a training pair; the paper trains on one, whatever ``k_shot``.
        crop: Training photos are cropped to a random part whose sides are at least this fraction of theirs, and scaled
            to ``image_size``; 1 keeps them whole, as in the paper.
        untrained: What pixels of the other classes are in training: "background", as in the paper, or "void", which
            does not count. Where nearly every photo shows the novel classes (roads in street scenes), "background"
            teaches the model that they never are an object.
        other_support: Control: evaluate each question with the support of the next one that asks for another class (one
            class an episode). What a method still finds, it finds without its support.
        options: See PhotoEpisodes.

    Raises:
        ValueError: A fold or class that does not exist, a class with too few photos, or a bad mask.
    """

    n_folds = 4
    interleaved = False  # every fourth class is a fold, not a quarter of them in a row

    def __init__(
        self,
        fold: int = 0,
        novel_classes: list[str] | None = None,
        convention: Convention = "paper",
        image_size: int | None = 500,
        min_pixels: int = 2048,
        train_shots: int = 1,
        crop: float = 1.0,
        untrained: Untrained = "background",
        other_support: bool = False,
        n_way: int = 1,
        n_query: int = 1,
        episodes: EpisodeCounts = EpisodeCounts(1000, 50, 1000),
        **options,
    ) -> None:
        super().__init__(n_way=n_way, n_query=n_query, episodes=episodes, **options)
        if not 0 <= fold < self.n_folds:
            raise ValueError(f"fold is {fold} but must be 0 to {self.n_folds - 1}")
        if convention not in ("paper", "later"):
            raise ValueError(f"convention is {convention!r} but must be 'paper' or 'later'")
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size is {image_size} pixels but must be at least 1, or null")
        if untrained not in ("background", "void"):
            raise ValueError(f"untrained is {untrained!r} but must be 'background' or 'void'")
        self.fold, self.novel_classes, self.convention, self.untrained = fold, novel_classes, convention, untrained
        check_one_way(other_support, n_way)
        self.other_support = other_support
        if train_shots < 1:
            raise ValueError(f"train_shots is {train_shots} but must be at least 1")
        if not 0 < crop <= 1:
            raise ValueError(f"crop is {crop} but must be above 0 and at most 1: the least fraction of a photo's sides")
        self.image_size, self.min_pixels, self.train_shots, self.crop = image_size, min_pixels, train_shots, crop
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._room = KEPT

    @abstractmethod
    def all_names(self) -> Sequence[str]:
        """Return all classes; label 1 + i of a mask is the i-th."""

    @abstractmethod
    def read_photos(self) -> list[MaskedPhoto]:
        """Read all annotations; no photo is decoded."""

    @abstractmethod
    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return ``(H, W)`` int16: 0 background, 1 + i class i of ``all_names``, -1 void."""

    def fold_names(self) -> Sequence[str]:
        """Return the classes of the fold: a quarter of all, in a row as in PASCAL-5i, or interleaved as in COCO-20i."""
        names = list(self.all_names())
        if self.interleaved:
            return names[self.fold :: self.n_folds]
        return [str(name) for name in np.array_split(names, self.n_folds)[self.fold]]

    def seen_names(self, areas: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
        """Return the classes of which a photo shows ``min_pixels`` (and one at least).

        Args:
            areas: Pixels of label i at place i.
            names: All classes; label 1 + i is the i-th.
        """
        return tuple(names[i - 1] for i in range(1, len(areas)) if areas[i] >= max(1, self.min_pixels))

    def novel_names(self) -> Sequence[str]:
        """Return the classes kept for testing."""
        if self.novel_classes == ["all"]:
            return sorted(self.shown_classes)
        return self.fold_names() if self.novel_classes is None else self.check_named(self.novel_classes)

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        paper = self.convention == "paper"
        return {
            **super().protocol(split),
            "fold": self.fold if self.novel_classes is None else None,
            "novel_classes": list(self.split_classes["test"]),
            "convention": self.convention,
            "void": "background" if paper else "ignore",
            "query_size": self.image_size if paper else "own",
            "sampling": "entries (photo, class), walked in random order" if self.n_way == 1 else "classes, uniformly",
            "min_pixels": self.min_pixels,
            "other_support": self.other_support,
        }

    def setup(self, stage: str) -> None:
        """Read the annotations and check the splits of this stage, before workers start."""
        super().setup(stage)
        if stage == "fit":
            _ = self.pair_names

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val" or "test"."""
        if split == "train":
            return self._batch(index)
        if self.other_support:
            return with_other_support(partial(self._task, split), index, self.counts[split])
        return self._task(split, index)

    def _evaluated(self, split: str) -> dict[str, list[str]]:
        items = super()._evaluated(split)
        if any(photo.held_out for photo in self.photos.values()):
            items = {c: [name for name in names if self.photos[name].held_out] for c, names in items.items()}
        return items

    def _make_sampler(self, items: dict[str, list[str]], split: str) -> EpisodeSampler | EntrySampler:
        if self.n_way == 1 and self.n_query == 1:
            return EntrySampler(items, 1, self.k_shot, 1, self.seed, split)
        return super()._make_sampler(items, split)

    # training ---------------------------------------------------------------------------------------------------

    def _batch(self, index: int) -> Episode:
        rng, total = self.rng("train", index), len(self.pair_names)
        places = range(index * self.batch_size, (index + 1) * self.batch_size)
        asked, shots, shown = [], [], []
        for place in places:
            photo = self.photos[self.pair_names[self._permutation(place // total, total)[place % total]]]
            name = str(rng.choice([c for c in photo.classes if c in self._shots_of]))
            others = [other for other in self._shots_of[name] if other != photo.name]
            asked.append(photo)
            shown.append(name)
            shots += [self.photos[other] for other in rng.choice(others, self.train_shots, replace=False)]
        augmentation = self.rng("train", index, "augmentation")
        numbers = {name: 1 + i for i, name in enumerate(self.all_names())}
        wanted = [numbers[name] for name in shown]
        pairs = [self._augmented(p, n, augmentation) for p, n in zip(asked, wanted, strict=True)]
        repeated = np.repeat(wanted, self.train_shots)
        support = [self._augmented(p, n, augmentation) for p, n in zip(shots, repeated, strict=True)]
        seen = np.unique(np.concatenate([np.unique(labels) for _, labels in (*pairs, *support)]))
        classes = tuple(name for name in self.class_names() if numbers[name] in seen)
        table = self._table([numbers[name] for name in classes])
        if self.untrained == "void":
            table[[number for name, number in numbers.items() if name not in self.split_classes["train"]]] = VOID
        labels = torch.tensor([classes.index(name) for name in shown])
        owners = torch.arange(len(pairs)).repeat_interleave(self.train_shots)
        return Episode(
            as_examples(support, [table] * len(support), labels[owners], shots)._replace(query_index=owners),
            as_examples(pairs, [table] * len(pairs), labels, asked),
            classes,
            index,
            tuple(self.class_names().index(name) for name in classes),
        )

    @cached_property
    def pair_names(self) -> tuple[str, ...]:
        """The training photos that show a class of which there are enough photos for a pair."""
        kept = set(self._shots_of)
        return tuple(name for name in self.training_names if kept.intersection(self.photos[name].classes))

    @cached_property
    def _shots_of(self) -> dict[str, list[str]]:
        """The training photos of each training class that has enough of them for a pair."""
        skipped, of = SkippedItems(), {}
        for c in self.split_classes["train"]:
            of[c] = [n for n in self.training_names if c in self.photos[n].classes]
            if len(of[c]) <= self.train_shots:
                skipped.add(c, f"{len(of[c])} training photos of {self.train_shots + 1}")
        skipped.warn("training classes as the asked one")
        kept = {c: photos for c, photos in of.items() if len(photos) > self.train_shots}
        if not kept:
            raise ValueError(f"no training class has more than train_shots = {self.train_shots} photos")
        return kept

    # evaluation -------------------------------------------------------------------------------------------------

    def _task(self, split: str, index: int) -> Episode:
        plan = self._plan(split, index)
        numbers = [1 + list(self.all_names()).index(name) for name in plan.classes]
        shots = [(self.photos[n], c) for c, names in enumerate(plan.support) for n in names]
        asked = [(self.photos[n], c) for c, names in enumerate(plan.query) for n in names]
        own = [self._table([0] * c + [numbers[c]]) for _, c in shots]  # a shot shows its own class alone
        support = [self._read(p, self.image_size) for p, _ in shots]
        size = self.image_size if self.convention == "paper" else None
        query = [self._read(p, size) for p, _ in asked]
        every = [self._table(numbers)] * len(query)
        labels = torch.tensor([c for _, c in asked]) if len(numbers) == 1 else None
        return Episode(
            as_examples(support, own, torch.tensor([c for _, c in shots]), [p for p, _ in shots]),
            as_examples(query, every, labels, [p for p, _ in asked]),
            plan.classes,
            index,
            tuple(self.split_classes[split].index(name) for name in plan.classes),
        )

    def _table(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the value, in an episode's masks, of every label; label ``numbers[i]`` becomes 1 + i, others 0."""
        table = np.zeros(len(self.all_names()) + 2, np.uint8)
        for i, number in enumerate(numbers):
            if number:
                table[number] = 1 + i
        table[UNKNOWN] = 0 if self.convention == "paper" else VOID
        return table

    def _augmented(self, photo: MaskedPhoto, wanted: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Read a photo and its labels for training, where label ``wanted`` stays in sight."""
        image, labels = self._read(photo, self.image_size)
        if self.crop < 1:
            size = labels.shape
            image, labels = random_part(image, labels, wanted, self.crop, rng)
            if self.image_size is not None and labels.shape != size:
                image, labels = resize_pair(image, labels, self.image_size)
        if self.mirror and rng.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        image, labels = np.ascontiguousarray(image), np.ascontiguousarray(labels)
        return (jitter_colours(image, rng) if self.colour else image), labels

    def _read(self, photo: MaskedPhoto, size: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Read a photo and its labels; those of ``image_size`` are kept as long as there is room."""
        if size is not None and photo.name in self._kept:
            return self._kept[photo.name]
        image, labels = read_photo(photo.path), self.read_mask(photo)
        check_sizes(image, labels, photo.name)
        if size is None:
            return image, labels
        image, labels = resize_pair(image, labels, size)
        needed = image.nbytes + labels.nbytes
        if needed <= self._room:
            self._kept[photo.name] = image, labels
            self._room -= needed
        return image, labels


class EntrySampler(EpisodeSampler):
    """One-way episodes: walk through all entries (item, class) in random order; the shots are other items of the class.

    Each pass uses every entry once as query, so that classes count by their items (OSLSM, section 5).
    """

    def __getitem__(self, index: int) -> EpisodePlan:
        """Return the plan of episode ``index``."""
        entries = [(name, item) for name in self.names for item in self.items[name]]
        turn, place = divmod(index, len(entries))
        name, query = entries[self._rng(turn, "order").permutation(len(entries))[place]]
        others = [item for item in self.items[name] if item != query]
        drawn = self._rng(index, "shots").choice(len(others), self.k_shot, replace=False)
        return EpisodePlan((name,), (tuple(others[i] for i in drawn),), ((query,),))


def as_examples(
    read: Sequence[tuple[np.ndarray, np.ndarray]],
    tables: Sequence[np.ndarray],
    labels: torch.Tensor | None,
    photos: Sequence[MaskedPhoto],
) -> Examples:
    """Return photos and labels as tensors, stacked where all have one size.

    Args:
        read: Photos ``(H, W, 3)`` uint8 and their labels ``(H, W)``.
        tables: For each photo, the value in the episode of every label.
        labels: Class of each.
        photos: For their names.
    """
    images = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image, _ in read]
    masks = [torch.from_numpy(table[values]) for (_, values), table in zip(read, tables, strict=True)]
    if len({image.shape for image in images}) == 1:
        images, masks = torch.stack(images), torch.stack(masks)
    return Examples(images, labels, class_masks=masks, names=tuple(p.name for p in photos))
