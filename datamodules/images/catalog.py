"""A catalogue of photos: files, the classes that they show, and which of both each split may use. It decodes no image.

Training uses photos that show a training class; evaluation uses no photo that training uses.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

from datamodules.images.reading import SkippedItems
from lightning_fewshot.sampling import EpisodePlan, episode_rng, read_episodes

Names = Sequence[str]
ALL_CLASSES = ("all",)  # as novel classes: none is left to train on


class AnnotatedPhoto(Protocol):
    """What every kind of photo has: a unique name, the classes that it shows, and whether training must not see it."""

    name: str
    path: Path
    classes: tuple[str, ...]
    evaluation_only: bool


@dataclass(frozen=True)
class PhotoSplits:
    """Which classes and photos train, validate and test.

    Args:
        novel_classes: Classes kept for testing, by name; ["all"]: all, which leaves none to train on; None: those of
            the data set's benchmark.
        val_classes: Classes kept for validation, drawn by the data's seed from those that are not novel. 0: validate
            on held-out photos of the training classes.
        held_out: Fraction of the photos kept out of training, in [0, 1), beyond those that the data set keeps out.
        eval_classes: "novel": test on the novel classes; "seen": on held-out photos of the training classes.
        small_classes: What to do with an evaluated class that has too few photos for an episode: "error", or "drop":
            leave it out, and list it in a warning.
        episodes_file: A list of test episodes to use as it is; items are photo names.
        train_on_spare: Train also on photos that the data set keeps for evaluation and that show no class evaluated.
        separate: Train on all photos that show no novel class and no validation class, and on no other, whichever the
            data set keeps for evaluation: no novel object is ever taken for background.
    """

    novel_classes: tuple[str, ...] | None = None
    val_classes: int = 0
    held_out: float = 0.0
    eval_classes: Literal["novel", "seen"] = "novel"
    small_classes: Literal["error", "drop"] = "error"
    episodes_file: str | None = None
    train_on_spare: bool = False
    separate: bool = False

    def __post_init__(self) -> None:
        if self.novel_classes is not None:
            object.__setattr__(self, "novel_classes", tuple(self.novel_classes))
        if self.val_classes < 0:
            raise ValueError(f"val_classes is {self.val_classes} but must be at least 0")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out} but must be at least 0 and below 1")
        if self.separate and self.train_on_spare:
            raise ValueError("separate and train_on_spare are both True but either says what to train on: give one")
        for name, allowed in {"eval_classes": ("novel", "seen"), "small_classes": ("error", "drop")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r} but must be {allowed[0]!r} or {allowed[1]!r}")


class PhotoCatalog:
    """Annotated photos and their splits.

    Args:
        photos: All of them.
        base_names: Gives the classes for training and validation; called when they are first asked for.
        novel_names: Gives the classes kept for testing.
        splits: Which of them train, validate and test.
        seed: Draws the validation classes and the photos that are held out.
        title: What the data set is called in warnings.

    Raises:
        ValueError: A split without a class or photo, or ``val_classes`` above the classes there are; when first used.
    """

    def __init__(
        self,
        photos: Sequence[AnnotatedPhoto],
        *,
        base_names: Callable[[], Names],
        novel_names: Callable[[], Names],
        splits: PhotoSplits,
        seed: int,
        title: str = "the photos",
    ) -> None:
        self.photos = {photo.name: photo for photo in named_apart(photos)}
        self.base_names = base_names
        self.novel_names = novel_names
        self.splits = splits
        self.seed = seed
        self.title = title
        self._photos_of: dict[str, dict[str, list[str]]] = {}

    @cached_property
    def shown_classes(self) -> frozenset[str]:
        """The classes that some photo shows."""
        return frozenset(name for photo in self.photos.values() for name in photo.classes)

    @cached_property
    def split_classes(self) -> dict[str, tuple[str, ...]]:
        """The classes of each split, sorted; disjoint but for evaluation on seen classes."""
        base, novel = self._shown(self.base_names()), self._shown(self.novel_names())
        val_classes = self.splits.val_classes
        if val_classes and val_classes >= len(base):
            raise ValueError(f"val_classes is {val_classes} but there are {len(base)} classes that are not novel")
        drawn = episode_rng(self.seed, "classes", 0).choice(len(base), val_classes, replace=False) if base else ()
        val = {base[i] for i in drawn}
        train = tuple(name for name in base if name not in val)
        test = train if self.splits.eval_classes == "seen" else tuple(novel)
        return {"train": train, "val": tuple(sorted(val)) or train, "test": test}

    @cached_property
    def training_names(self) -> tuple[str, ...]:
        """The photos to train on: they show a training class and are not held out."""
        classes = set(self.split_classes["train"])
        return tuple(
            photo.name
            for photo in self.photos.values()
            if not self._kept_out(photo) and classes.intersection(photo.classes)
        )

    def photos_of(self, split: str) -> dict[str, list[str]]:
        """Return the photos that evaluation may use, of each class of a split: none that training sees."""
        if split not in self._photos_of:
            items: dict[str, list[str]] = {name: [] for name in self.split_classes[split]}
            training = set(self.training_names)
            for photo in self.photos.values():
                for name in () if photo.name in training else sorted(set(photo.classes).intersection(items)):
                    items[name].append(photo.name)
            self._photos_of[split] = items
        return self._photos_of[split]

    def named(self, names: Names) -> tuple[str, ...]:
        """Return the classes that a user named, after checking that photos show them."""
        unknown = sorted(set(names).difference(self.shown_classes))
        if unknown:
            raise ValueError(
                f"novel_classes has {unknown[0]!r} but the data has {', '.join(sorted(self.shown_classes))}"
            )
        return tuple(names)

    def read_plans(self, path: str) -> list[EpisodePlan]:
        """Read a list of test episodes and check that the photos exist."""
        plans = read_episodes(path)
        for i, plan in enumerate(plans):
            lacking = [n for part in plan[1:] for names in part for n in names if n not in self.photos]
            lacking += [c for c in plan.classes if c not in self.split_classes["test"]]
            if lacking:
                raise ValueError(f"episode {i} of {path} names {lacking[0]!r}, which split 'test' lacks")
        return plans

    @cached_property
    def _separated(self) -> frozenset[str]:
        """The classes whose photos are not trained on, where photos are kept separate."""
        return self.shown_classes.difference(self.split_classes["train"])

    def _shown(self, names: Names) -> list[str]:
        """Return the classes that some photo shows, sorted; warn of others."""
        skipped = SkippedItems()
        for name in sorted(set(names).difference(self.shown_classes)):
            skipped.add(name, "no photo")
        skipped.warn(f"classes of {self.title}")
        return sorted(self.shown_classes.intersection(names))

    def _kept_out(self, photo: AnnotatedPhoto) -> bool:
        place = zlib.crc32(f"{self.seed} {photo.name}".encode()) / 2**32
        return self._evaluates(photo) or place < self.splits.held_out

    def _evaluates(self, photo: AnnotatedPhoto) -> bool:
        """Return whether the data set keeps a photo for evaluation, and it may be needed for it here."""
        if self.splits.separate:
            return not self._separated.isdisjoint(photo.classes)
        if not (photo.evaluation_only and self.splits.train_on_spare):
            return photo.evaluation_only
        evaluated = {*self.split_classes["val"], *self.split_classes["test"]}
        return not evaluated.isdisjoint(photo.classes)


def named_apart(photos: Sequence[AnnotatedPhoto]) -> list[AnnotatedPhoto]:
    """Return the photos with different names: those of one name get that of their folder in front.

    Raises:
        ValueError: Two photos have one file.
    """
    counts = Counter(photo.name for photo in photos)
    apart = [
        photo if counts[photo.name] == 1 else photo._replace(name=f"{photo.path.parent.name}/{photo.name}")
        for photo in photos
    ]
    counts = Counter(photo.name for photo in apart)
    apart = [photo if counts[photo.name] == 1 else photo._replace(name=photo.path.as_posix()) for photo in apart]
    twice = [name for name, count in Counter(photo.name for photo in apart).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is listed twice")
    return apart
