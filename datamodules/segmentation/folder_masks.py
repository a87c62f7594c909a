"""One's own photos with masks: ``images/`` and ``masks/`` with the same names; photos without a mask are predicted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from datamodules.images.mask_reading import UNKNOWN, areas_of, label_map, read_values
from datamodules.images.own_folder import SUFFIXES, OwnFolder
from datamodules.images.reading import read_photo
from datamodules.images.roots import Download
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto, as_examples
from datamodules.segmentation.settings import MaskRules
from lightning_fewshot.episodes import VOID, Episode

DEFAULT_NAME = "object"


class FolderMasks(OwnFolder, PhotoSegmentation):
    """A few photos of one's own with masks, and more to predict.

    ``classes.txt`` names the values of the masks, a line each: ``1 cat``; 0 is background and 255 void. Without that
    file whatever is not 0 is one class, "object". Masks are 8-bit grey, palette, 1-bit or 16-bit PNG.

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
        needs=("images", "masks/*.png"),
        what="nothing, but paint masks of a few photos, masks/<name>.png for images/<name>.jpg",
        source="your annotation tool (CVAT, Label Studio, GIMP, ...)",
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
        masks = sorted((self.folder / "masks").glob("*.png"))
        areas, names = areas_of(masks, self._read_labels), self.all_names()
        files = [self._photo_of(mask) for mask in masks]
        return [
            MaskedPhoto(name=self.name_of(file), path=file, mask=mask, classes=self.seen_names(area, names))
            for file, mask, area in zip(files, masks, areas, strict=True)
        ]

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo."""
        return self._read_labels(photo.mask)

    def image_files(self) -> Iterable[Path]:
        """Return the files in ``images/`` and ``query/``."""
        return (f for part in ("images", "query") for f in (self.folder / part).rglob("*"))

    def shots(self) -> Sequence[tuple[MaskedPhoto, int]]:
        """Return all shots: each photo with the place of each class that it shows."""
        photos = self.catalog.photos.values()
        return [(photo, self.all_classes.index(name)) for photo in photos for name in photo.classes]

    def predicted_episode(self, paths: Sequence[Path], index: int) -> Episode:
        """Return the episode that predicts some files."""
        names = self.all_classes
        asked = [MaskedPhoto(name=self.name_of(path), path=path, mask=None, classes=()) for path in paths]
        images = [read_photo(path) for path in paths]
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
        rows = [line.split(maxsplit=1) for line in path.read_text().splitlines() if line.strip()]
        for row in rows:
            if len(row) != 2 or not row[0].isdigit() or not 0 < int(row[0]) < VOID:
                raise ValueError(f"{path} has the line {' '.join(row)!r}, expected a value from 1 to 254 and a name")
        return {int(value): name.strip() for value, name in rows}

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
