"""Photos with boxes as few-shot detection episodes. A data set adds one file that says how to read its photos."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from datamodules.augmentation import jitter_colours
from datamodules.photo_reading import SkippedItems, clean_boxes, flip, read_photo, resize
from lightning_fewshot.base import EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.sampling import EpisodePlan, EpisodeSampler, episode_rng, read_episodes


class Photo(NamedTuple):
    """One annotated image file.

    Args:
        name: What it is called in episode lists and results; unique in the data set.
        path: The file.
        boxes: ``(M, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels.
        classes: Class of each box.
        size: (width, height) to which the boxes refer; None: the file's own.
        held_out: Never used in training.
    """

    name: str
    path: Path
    boxes: np.ndarray
    classes: tuple[str, ...]
    size: tuple[int, int] | None = None
    held_out: bool = False


class PhotoDetection(EpisodicDataModule):
    """Few-shot detection on annotated photos.

    Training episodes are plain batches of photos that show a training class, with all training classes labelled.
    Evaluation episodes use no training photo: a support photo has one labelled object, the largest of its class; a
    query photo has every object of the episode's classes labelled.

    Args:
        batch_size: Photos of a training batch.
        short_side: Scale photos to this shorter side in pixels; None keeps their size.
        max_side: No longer side than this.
        mirror: Mirror training photos with probability one half.
        colour: Colour augmentation in training.
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
        train_episodes: Training batches of one epoch.
        val_episodes: Validation episodes.
        test_episodes: Test episodes.
        seed: Everything is a function of (seed, split, index).
        num_workers: Processes that prepare episodes.

    Raises:
        FileNotFoundError: There is no such data, on first use; says what to download.
        ValueError: ``n_way`` above the classes of a split, a class with too few photos, or a truncated photo.
    """

    def __init__(
        self,
        batch_size: int = 2,
        short_side: int | None = None,
        max_side: int | None = None,
        mirror: bool = True,
        colour: bool = True,
        val_classes: int = 0,
        held_out: float = 0.0,
        eval_classes: Literal["novel", "seen"] = "novel",
        small_classes: Literal["error", "drop"] = "error",
        episodes_file: str | None = None,
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 10,
        train_episodes: int = 1000,
        val_episodes: int = 20,
        test_episodes: int = 500,
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__(n_way, k_shot, n_query, train_episodes, val_episodes, test_episodes, seed, num_workers)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size} but must be at least 1")
        if not 0 <= held_out < 1:
            raise ValueError(f"held_out is {held_out} but must be at least 0 and below 1")
        self.batch_size, self.short_side, self.max_side = batch_size, short_side, max_side
        self.mirror, self.colour = mirror, colour
        self.val_classes, self.held_out, self.eval_classes = val_classes, held_out, eval_classes
        self.small_classes, self.episodes_file = small_classes, episodes_file
        self._samplers: dict[str, EpisodeSampler] = {}
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    @abstractmethod
    def read_photos(self) -> list[Photo]:
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
            elif self.episodes[split] and not (split == "test" and self.plans):
                self._sampler(split)

    def class_names(self) -> tuple[str, ...]:
        """Return the training classes, sorted."""
        return self.split_classes["train"]

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        more = {"eval_classes": self.eval_classes, "episodes_file": self.episodes_file}
        return {**super().protocol(split), **more, "classes": self._count(split)}

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val" or "test"."""
        return self._batch(index) if split == "train" else self._task(split, index)

    def _count(self, split: str) -> int:
        names = self._samplers[split].names if split in self._samplers else self.split_classes.get(split, ())
        return len(names)

    @cached_property
    def photos(self) -> dict[str, Photo]:
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
            self.episodes["test"] = min(self.episodes["test"], len(plans))
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

    def _held_out(self, photo: Photo) -> bool:
        share = zlib.crc32(f"{self.seed} {photo.name}".encode()) / 2**32
        return photo.held_out or share < self.held_out

    def _sampler(self, split: str) -> EpisodeSampler:
        if split not in self._samplers:
            training = set(self.training_names) if self.split_classes["train"] else set()
            items: dict[str, list[str]] = {name: [] for name in self.split_classes[split]}
            for photo in self.photos.values():
                for name in () if photo.name in training else sorted(set(photo.classes).intersection(items)):
                    items[name].append(photo.name)
            if self.small_classes == "drop":
                items = self._large(items)
            self._samplers[split] = EpisodeSampler(items, self.n_way, self.k_shot, self.n_query, self.seed, split)
        return self._samplers[split]

    def _large(self, items: dict[str, list[str]]) -> dict[str, list[str]]:
        """Leave out the classes that have too few photos for an episode, and list them in a warning."""
        need, skipped = self.k_shot + self.n_query, SkippedItems()
        for name, photos in items.items():
            if len(photos) < need:
                skipped.add(name, f"{len(photos)} photos of {need}")
        skipped.warn("small classes")
        return {name: photos for name, photos in items.items() if len(photos) >= need}

    def _batch(self, index: int) -> Episode:
        """Walk through the photos in an order that is drawn anew for each pass."""
        total = len(self.training_names)
        places = range(index * self.batch_size, (index + 1) * self.batch_size)
        drawn = [self.photos[self.training_names[self._permutation(p // total)[p % total]]] for p in places]
        rng = self.rng("train", index, "augmentation")
        query = self._examples(drawn, [self.class_names()] * len(drawn), self.class_names(), rng)
        return Episode(None, query, self.class_names(), index, tuple(range(len(self.class_names()))))

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            self._order = (epoch, self.rng("train", epoch, "order").permutation(len(self.training_names)))
        return self._order[1]

    def _task(self, split: str, index: int) -> Episode:
        fixed = split == "test" and self.plans is not None
        plan = self.plans[index] if fixed else self._sampler(split)[index]
        shots = [(self.photos[n], (c,)) for c, names in zip(plan.classes, plan.support, strict=True) for n in names]
        support = self._examples([p for p, _ in shots], [c for _, c in shots], plan.classes, one=not fixed)
        asked = [self.photos[name] for names in plan.query for name in names]
        query = self._examples(asked, [plan.classes] * len(asked), plan.classes)
        numbers = tuple(self.split_classes[split].index(name) for name in plan.classes)
        return Episode(support, query, plan.classes, index, numbers)

    def _examples(
        self,
        photos: Sequence[Photo],
        labelled: Sequence[tuple[str, ...]],
        classes: tuple[str, ...],
        rng: np.random.Generator | None = None,
        one: bool = False,
    ) -> Examples:
        """Read photos; of photo i the classes ``labelled[i]`` are labelled, with only the largest object if ``one``."""
        images, boxes, labels = [], [], []
        number = {name: i for i, name in enumerate(classes)}
        for photo, shown in zip(photos, labelled, strict=True):
            rows = [i for i, name in enumerate(photo.classes) if name in shown and name in number]
            if one:
                rows = sorted(rows, key=lambda i, b=photo.boxes: -float((b[i, 2] - b[i, 0]) * (b[i, 3] - b[i, 1])))[:1]
            image, found = self._read(photo, photo.boxes[rows], rng)
            images.append(torch.from_numpy(image).permute(2, 0, 1).contiguous())
            boxes.append(torch.from_numpy(found))
            labels.append(torch.tensor([number[photo.classes[i]] for i in rows], dtype=torch.int64))
        same = len({image.shape for image in images}) == 1
        return Examples(torch.stack(images) if same else images, labels, boxes, names=tuple(p.name for p in photos))

    def _read(self, photo: Photo, boxes: np.ndarray, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        image = read_photo(photo.path, photo.size)
        height, width = image.shape[:2]
        if photo.size is not None and photo.size != (width, height):  # annotated at another scale
            boxes = boxes * np.array([width / photo.size[0], height / photo.size[1]] * 2, np.float32)
        image, boxes = resize(image, clean_boxes(boxes, width, height)[0], self.short_side, self.max_side)
        if rng is not None and self.mirror and rng.random() < 0.5:
            image, boxes = flip(image, boxes)
        if rng is not None and self.colour:
            image = jitter_colours(image, rng)
        return image, np.ascontiguousarray(boxes, np.float32)
