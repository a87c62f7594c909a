"""One's own photos with masks: ``images/`` and ``masks/`` with the same names; photos without a mask are predicted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from datamodules.images.mask_reading import UNKNOWN, areas_of, label_map
from datamodules.images.own_folder import OwnFolder
from datamodules.images.roots import Download
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto, as_examples
from datamodules.segmentation.settings import MaskRules
from lightning_fewshot.episodes import VOID, Episode
from lightning_fewshot.folders import IMAGE_SUFFIXES, data_files, same_name
from lightning_fewshot.images import read_image, read_mask
from lightning_fewshot.text import read_lines

DEFAULT_NAME = "object"
LOSSY = (".jpg", ".jpeg")


class FolderMasks(OwnFolder, PhotoSegmentation):
    """A few photos of one's own with masks, and more to predict.

    ``classes.txt`` names the values of the masks, a line each: ``1 cat``; 0 is background and 255 void. Without that
    file whatever is not 0 is one class, "object". Masks are 8-bit grey, palette, 1-bit or 16-bit PNG; what is
    transparent in one is background.

    ``predict`` uses every photo with a mask as support (one shot for each class that it shows), and predicts the
    photos without one, in ``images/`` or ``query/``. ``test`` draws episodes from the photos with masks; ``fit``
    trains on the classes that are not novel; by default all are. ``fold`` is not used.

    Args:
        root: The folder (or the one that holds ``my-masks``); None: FEWSHOT_DATA.
        rules: Which classes are asked for, and how pixels count.
        options: See OwnFolder and PhotoSegmentation.
    """

    download = Download(
        folder="my-masks",
        needs=("images", "masks/*"),
        what="masks of a few photos, masks/<name>.png for images/<name>.jpg,",
        source="your annotation tool (CVAT, Label Studio, GIMP, ...)",
        verb="Export",
    )
    nothing_labelled = "/masks shows no class"
    nothing_to_predict = "has no photo without a mask: put those to predict"

    def __init__(self, root: str | None = None, rules: MaskRules = MaskRules(min_pixels=1), **options) -> None:
        super().__init__(root, rules=rules, **options)

    def all_names(self) -> Sequence[str]:
        """Return the classes in the order of their values."""
        return [name for _, name in sorted(self.values.items())]

    def read_photos(self) -> list[MaskedPhoto]:
        """Read all masks once."""
        masks = data_files(self.folder / "masks", IMAGE_SUFFIXES)
        areas, names = areas_of(masks, self._read_labels), self.all_names()
        files = [self._photo_of(mask) for mask in masks]
        if len(set(files)) < len(files):
            twice = next(file for file in files if files.count(file) > 1)
            paths = [str(mask) for mask, file in zip(masks, files, strict=True) if file == twice]
            raise ValueError(f"{twice} has several masks: {', '.join(paths)}")
        return [
            MaskedPhoto(name=self.name_of(file), path=file, mask=mask, classes=self.seen_names(area, names))
            for file, mask, area in zip(files, masks, areas, strict=True)
        ]

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo."""
        return self._read_labels(photo.mask)

    def image_files(self) -> Iterable[Path]:
        """Return the images in ``images/`` and ``query/``."""
        return [f for part in ("images", "query") for f in data_files(self.folder / part, IMAGE_SUFFIXES)]

    def shots(self) -> Sequence[tuple[MaskedPhoto, int]]:
        """Return all shots: each photo with the place of each class that it shows."""
        photos = self.catalog.photos.values()
        return [(photo, self.all_classes.index(name)) for photo in photos for name in photo.classes]

    def predicted_episode(self, paths: Sequence[Path], index: int) -> Episode:
        """Return the episode that predicts some files."""
        names = self.all_classes
        asked = [MaskedPhoto(name=self.name_of(path), path=path, mask=None, classes=()) for path in paths]
        images = [read_image(path) for path in paths]
        empty = [(image, np.zeros(image.shape[:2], np.int16)) for image in images]
        query = as_examples(read=empty, tables=[self.table({})] * len(empty), labels=None, photos=asked)._replace(
            class_masks=None
        )
        return Episode(
            support=self.shot_examples(self.shots(), names),
            query=query,
            classes=names,
            index=index,
            class_ids=tuple(range(len(names))),
        )

    @cached_property
    def values(self) -> dict[int, str]:
        """The name of each value of the masks.

        Raises:
            ValueError: classes.txt has a line that is no number and name.
        """
        path = self.folder / "classes.txt"
        if not path.exists():
            return {1: DEFAULT_NAME}
        values: dict[int, str] = {}
        for number, line in read_lines(path):
            value, *name = re.split(r"[\s,;:=]+", line, maxsplit=1)
            if not name or not name[0] or not re.fullmatch(r"\d{1,3}", value) or not 0 < int(value) < VOID:
                raise ValueError(f"{path} has the line {line[:80]!r}, expected a value from 1 to 254 and a name")
            if values.setdefault(int(value), name[0]) != name[0]:
                raise ValueError(f"{path} line {number} has the value {value} of {values[int(value)]!r}")
        return values

    @cached_property
    def _photos_by_name(self) -> dict[str, list[Path]]:
        """The files in ``images/`` by their path without suffix."""
        files: dict[str, list[Path]] = {}
        for file in data_files(self.folder / "images", IMAGE_SUFFIXES):
            files.setdefault(self._key(file, "images"), []).append(file)
        return files

    def _key(self, path: Path, part: str) -> str:
        return same_name(path.relative_to(self.folder / part).with_suffix("").as_posix())

    def _photo_of(self, mask: Path) -> Path:
        key = self._key(mask, "masks")
        files = self._photos_by_name.get(key) or self._photos_by_name.get(key.rpartition(".")[0], [])  # a.jpg.png
        if len(files) > 1:
            raise ValueError(f"{mask} may be the mask of {files[0]} or of {files[1]}: give them different names")
        if not files:
            name = mask.relative_to(self.folder / "masks").with_suffix("")
            raise FileNotFoundError(f"{mask} has no photo {self.folder}/images/{name}.jpg (or .png, ...)")
        return files[0]

    def _read_labels(self, path: Path) -> np.ndarray:
        if path.suffix.lower() in LOSSY:
            raise ValueError(f"mask {path} is a JPEG, which changes values: save masks as PNG")
        values = read_mask(path)
        if not (self.folder / "classes.txt").exists():
            return (values != 0).astype(np.int16)
        table = {0: 0, VOID: UNKNOWN} | {value: 1 + i for i, value in enumerate(sorted(self.values))}
        return label_map(values, table, path)
