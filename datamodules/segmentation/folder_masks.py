"""One's own photos with masks: ``images/`` and ``masks/`` with the same names; photos without a mask are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.detection.folder import SUFFIXES
from datamodules.images.mask_reading import UNKNOWN, areas_of, label_map, read_values
from datamodules.images.reading import read_photo
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.base import MaskedPhoto, PhotoSegmentation, as_examples
from lightning_fewshot.episodes import VOID, Episode

DOWNLOAD = Download(
    "my-masks",
    ("images", "masks/*.png"),
    "nothing, but paint masks of a few photos, masks/<name>.png for images/<name>.jpg",
    "your annotation tool (CVAT, Label Studio, GIMP, ...)",
)
DEFAULT_NAME = "object"


class FolderMasks(PhotoSegmentation):
    """A few photos of one's own with masks, and more to predict.

    ``classes.txt`` names the values of the masks, a line each: ``1 cat``; 0 is background and 255 void. Without that
    file whatever is not 0 is one class, "object". Masks are 8-bit grey, palette, 1-bit or 16-bit PNG.

    ``predict`` uses every photo with a mask as support (one shot for each class that it shows), and predicts the
    photos without one, in ``images/`` or ``query/``. ``test`` draws episodes from the photos with masks; ``fit``
    trains on the classes that are not ``novel_classes``.

    Args:
        root: The folder (or the one that holds ``my-masks``); None: FEWSHOT_DATA.
        novel_classes: Classes kept for testing; the default is all of them, which leaves none to train on.
        min_pixels: A class counts as shown where it covers as many pixels at least.
        chunk: Images of one predicted episode.
        options: See PhotoSegmentation. ``fold`` is not used.
    """

    def __init__(
        self,
        root: str | None = None,
        novel_classes: list[str] | None = None,
        min_pixels: int = 1,
        chunk: int = 8,
        **options,
    ) -> None:
        super().__init__(novel_classes=novel_classes or ["all"], min_pixels=min_pixels, **options)
        if chunk < 1:
            raise ValueError(f"chunk is {chunk} but must be at least 1")
        self.root, self.chunk = root, chunk

    def setup(self, stage: str) -> None:
        """Read the masks; count the episodes to predict."""
        super().setup(stage)
        if stage == "predict":
            if not self.shown_classes:
                raise ValueError(f"{self.folder}/masks shows no class: there is nothing to adapt to")
            if not self.unlabelled:
                raise ValueError(f"{self.folder} has no photo without a mask: put those to predict into query/")
            self.counts["predict"] = -(-len(self.unlabelled) // self.chunk)

    def all_names(self) -> Sequence[str]:
        """Return the classes in the order of their values."""
        return [name for _, name in sorted(self.values.items())]

    def read_photos(self) -> list[MaskedPhoto]:
        """Read all masks once."""
        masks = sorted((self.folder / "masks").glob("*.png"))
        areas, names = areas_of(masks, self._read_labels), self.all_names()
        photos = []
        for mask, area in zip(masks, areas, strict=True):
            photo = self._photo_of(mask)
            photos.append(
                MaskedPhoto(photo.relative_to(self.folder).as_posix(), photo, mask, self.seen_names(area, names))
            )
        return photos

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo."""
        return self._read_labels(photo.mask)

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        more = {"classes": len(self.shown_classes), "shots": len(self._shots)} if split == "predict" else {}
        return {**super().protocol(split), **more}

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val", "test" or "predict"."""
        if split != "predict":
            return super().episode(split, index)
        names = sorted(self.shown_classes)
        numbers = [1 + self.all_names().index(name) for name in names]
        tables = [self._table([0] * names.index(c) + [numbers[names.index(c)]]) for _, c in self._shots]
        support = [self._read(photo, self.image_size) for photo, _ in self._shots]
        labels = torch.tensor([names.index(c) for _, c in self._shots])
        paths = self.unlabelled[index * self.chunk : (index + 1) * self.chunk]
        asked = [MaskedPhoto(path.relative_to(self.folder).as_posix(), path, None, ()) for path in paths]
        photos = [read_photo(path) for path in paths]
        empty = [(photo, np.zeros(photo.shape[:2], np.int16)) for photo in photos]
        query = as_examples(empty, [self._table(numbers)] * len(empty), None, asked)._replace(class_masks=None)
        shots = as_examples(support, tables, labels, [photo for photo, _ in self._shots])
        return Episode(shots, query, tuple(names), index, tuple(range(len(names))))

    @cached_property
    def folder(self) -> Path:
        """The folder."""
        return find_root(self.root, DOWNLOAD)

    @cached_property
    def values(self) -> dict[int, str]:
        """The name of each value of the masks.

        Raises:
            ValueError: classes.txt has a line that is no number and name.
        """
        path = self.folder / "classes.txt"
        if not path.exists():
            return {1: DEFAULT_NAME}
        rows = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip()]
        for row in rows:
            if len(row) != 2 or not row[0].isdigit() or not 0 < int(row[0]) < VOID:
                raise ValueError(f"{path} has the line {' '.join(row)!r}, expected a value from 1 to 254 and a name")
        return {int(value): name.strip() for value, name in rows}

    @cached_property
    def unlabelled(self) -> tuple[Path, ...]:
        """The photos to predict, sorted."""
        labelled = {photo.path for photo in self.photos.values()}
        files = [f for part in ("images", "query") for f in (self.folder / part).rglob("*")]
        return tuple(sorted(f for f in files if f.suffix.lower() in SUFFIXES and f not in labelled))

    @cached_property
    def _shots(self) -> list[tuple[MaskedPhoto, str]]:
        """All shots: each photo with each class that it shows."""
        return [(photo, name) for photo in self.photos.values() for name in photo.classes]

    def _photo_of(self, mask: Path) -> Path:
        for file in sorted((self.folder / "images").glob(f"{mask.stem}.*")):
            if file.suffix.lower() in SUFFIXES:
                return file
        raise FileNotFoundError(f"{mask} has no photo {self.folder}/images/{mask.stem}.jpg (or .png, ...)")

    def _read_labels(self, path: Path) -> np.ndarray:
        values = read_values(path)
        if not (self.folder / "classes.txt").exists():
            return (values != 0).astype(np.int16)
        table = {0: 0, VOID: UNKNOWN} | {value: 1 + i for i, value in enumerate(sorted(self.values))}
        return label_map(values, table, path)

    def _advice(self) -> str:
        return "set novel_classes to the classes kept for testing, so that others are left to train on"
