"""Which image shows which class, and who is in which split, decided without touching an image."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.classification.settings import ClassSplits
from datamodules.images.reading import SkippedItems
from lightning_fewshot.files import is_litter
from lightning_fewshot.sampling import episode_rng

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"}
LITTER = {"thumbs.db", "desktop.ini"}
PARTS = ("train", "val", "test")


class ClassImage(NamedTuple):
    """One image of one class.

    Args:
        name: Unique; what the image is called in pictures and lists.
        label: Name of its class.
        path: Its file; None where it is drawn.
        part: "train", "val" or "test" where the data set itself says so.
    """

    name: str
    label: str
    path: Path | None = None
    part: str | None = None


class ClassCatalog:
    """Images and their splits.

    Args:
        images: All of them.
        splits: What is in which split where the data set does not say.
        seed: Draws what the splits leave open.
        class_parts: Names of the classes of "train", "val" and "test", where the data set has such a split.

    Raises:
        ValueError: There are fewer than two classes, or a name is in it twice.
    """

    def __init__(
        self,
        images: Sequence[ClassImage],
        splits: ClassSplits,
        seed: int,
        class_parts: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        self.images = list(images)
        self.splits = splits
        self.seed = seed
        self.class_parts = class_parts
        self.names = sorted({image.label for image in images})
        if len(self.names) < 2:
            raise ValueError(f"the data has {len(self.names)} class ({', '.join(self.names)}) but 2 are the fewest")

    @cached_property
    def split_classes(self) -> dict[str, tuple[str, ...]]:
        """The classes of each split, sorted; disjoint, or all the same in a closed set."""
        if self.splits.evaluated == "closed":
            return dict.fromkeys(PARTS, tuple(self.names))
        if self.class_parts is not None:
            shown = set(self.names)
            return {part: tuple(sorted(shown.intersection(self.class_parts[part]))) for part in PARTS}
        return self._drawn_classes()

    @cached_property
    def items(self) -> dict[str, dict[str, list[int]]]:
        """Numbers of the images of each class of each split."""
        closed = self.splits.evaluated == "closed"
        items: dict[str, dict[str, list[int]]] = {part: {n: [] for n in self.split_classes[part]} for part in PARTS}
        part_of_class = {name: part for part in PARTS for name in self.split_classes[part]}
        for number, image in enumerate(self.images):
            part = self._part(number) if closed else part_of_class.get(image.label)
            if part is not None:
                items[part][image.label].append(number)
        for name in self.split_classes["train"] if closed else ():
            if not items["train"][name]:
                held = sum(len(items[part][name]) for part in PARTS)
                raise ValueError(f"class {name!r} has 0 training images but {held} to evaluate on: none can be learned")
        return items

    def _part(self, number: int) -> str:
        """Return the split of an image of a closed set; a data set that has no validation part gives of its own."""
        part, place, splits = self.images[number].part, self._places[number], self.splits
        if part in ("val", "test") or (part == "train" and "val" in self._parts):
            return part
        if part is None and place < splits.test_images:
            return "test"
        first = splits.test_images if part is None else 0.0
        return "val" if place < first + splits.val_images else "train"

    @cached_property
    def _places(self) -> dict[int, float]:
        """The place in [0, 1) of each image among those of its class that are split alike, in an order by hash."""
        groups: dict[tuple[str, str | None], list[int]] = {}
        for number, image in enumerate(self.images):
            groups.setdefault((image.label, image.part), []).append(number)
        places = {}
        for numbers in groups.values():
            order = sorted(numbers, key=lambda number: zlib.crc32(f"{self.seed} {self.images[number].name}".encode()))
            places |= {number: (place + 0.5) / len(order) for place, number in enumerate(order)}
        return places

    @cached_property
    def _parts(self) -> set[str | None]:
        return {image.part for image in self.images}

    def _drawn_classes(self) -> dict[str, tuple[str, ...]]:
        named, count = self.splits.test_classes, len(self.names)
        if not isinstance(named, int) and (unknown := sorted(set(named).difference(self.names))):
            raise ValueError(f"splits.test_classes has {unknown[0]!r} but the data has {', '.join(self.names)}")
        n_test = named if isinstance(named, int) else len(named)
        if n_test + self.splits.val_classes + 2 > count:
            raise ValueError(
                f"splits has {n_test} test and {self.splits.val_classes} validation classes, but of {count} classes "
                f"2 must be left to train on"
            )
        order = [self.names[i] for i in episode_rng(self.seed, "classes", 0).permutation(count)]
        test = set(order[:n_test] if isinstance(named, int) else named)
        rest = [name for name in order if name not in test]
        val = rest[: self.splits.val_classes]
        train = rest[self.splits.val_classes :]
        return {"train": tuple(sorted(train)), "val": tuple(sorted(val)), "test": tuple(sorted(test))}


def class_folders(root: Path, part: str | None = None) -> list[ClassImage]:
    """List the images below a folder; the class is the folder that an image lies in, nested ones with their path.

    Hidden files and what operating systems leave behind are passed over; other files that are no images are counted
    and listed in one warning.

    Raises:
        FileNotFoundError: There is no image in a folder.
    """
    images, skipped = [], SkippedItems()
    for path in sorted(root.rglob("*")):
        if is_litter(path, root) or path.name.lower() in LITTER or not path.is_file():
            continue
        if path.suffix.lower() not in SUFFIXES:
            skipped.add(str(path.relative_to(root)), "no image")
        elif path.parent == root:
            skipped.add(path.name, "in no class folder")
        else:
            name = path.relative_to(root).as_posix()
            images.append(ClassImage(name if part is None else f"{part}/{name}", _label(name), path, part))
    skipped.warn(f"files of {root}")
    if not images:
        raise FileNotFoundError(f"{root} holds no <class>/<image>: put the images of each class into a folder")
    return images


def warn_of_few(items: Mapping[str, Sequence[int]], needed: int) -> None:
    """Warn of classes with fewer training images than a batch takes of each: theirs come more than once."""
    few = SkippedItems()
    for name, numbers in items.items():
        if len(numbers) < needed:
            few.add(name, f"{len(numbers)}")
    if len(few):
        warnings.warn(
            f"{len(few)} classes have fewer training images than per_class {needed}, which repeats them in a batch: "
            f"{', '.join(few.items[:5])}",
            stacklevel=2,
        )


def draw_numbers(numbers: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """Draw ``count`` images of a class, none twice before all were drawn.

    >>> sorted(draw_numbers([4, 5], 4, np.random.default_rng(0)))
    [4, 4, 5, 5]
    """
    rounds = -(-count // len(numbers))
    order = np.concatenate([rng.permutation(len(numbers)) for _ in range(rounds)])[:count]
    return [numbers[i] for i in order]


def _label(name: str) -> str:
    return name.rpartition("/")[0]
