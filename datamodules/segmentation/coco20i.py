"""COCO-20i (Nguyen and Todorovic, ICCV 2019): COCO's 80 classes in four folds, every fourth class in one of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.images.coco_json import CocoImage, as_key, is_crowd, read_record
from datamodules.images.coco_masks import CocoMask, draw, read_mask_entry
from datamodules.images.mask_reading import UNKNOWN
from datamodules.images.reading import SkippedItems
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto
from lightning_fewshot.images import image_size
from lightning_fewshot.text import as_number

DOWNLOAD = Download(
    folder="coco",
    needs=("train20*", "val20*", "annotations/instances_train20*.json", "annotations/instances_val20*.json"),
    what="train2014.zip, val2014.zip and annotations_trainval2014.zip (or those of 2017)",
    source="the COCO consortium, https://cocodataset.org/#download,",
)


class CocoSegmentation(PhotoSegmentation):
    """What COCO's masks of each kind share: a json names the classes, and every fourth class is a fold.

    Args:
        root: Folder that holds the data, or that folder; None: FEWSHOT_DATA.
        options: See PhotoSegmentation.
    """

    interleaved = True

    def __init__(self, root: str | None = None, **options) -> None:
        super().__init__(root, **options)
        self._names: tuple[str, ...] = ()

    def all_names(self) -> Sequence[str]:
        """Return the classes in the order of COCO's numbers."""
        _ = self.catalog
        return self._names

    def labels_of(self, classes: Mapping[Hashable, str]) -> dict[Hashable, int]:
        """Number the classes, in the order of COCO's numbers; return the label, 1 + i, of each category number.

        Args:
            classes: Name of each category number that is a class.
        """
        categories = sorted(classes.items(), key=lambda item: (isinstance(item[0], str), item[0]))
        self._names = tuple(dict.fromkeys(name for _, name in categories))
        return {number: 1 + self._names.index(name) for number, name in categories}


class DrawnObject(NamedTuple):
    """One annotated object: its mask and area, its label, and whether it is a region with many objects."""

    mask: CocoMask
    area: float
    label: int
    crowd: bool


class DrawnMask(NamedTuple):
    """What the mask of a photo of (width, height) is drawn from."""

    size: tuple[int, int]
    objects: list[DrawnObject]


class Coco20i(CocoSegmentation):
    """COCO-20i: train on COCO's training photos, test on its validation photos. Crowd regions are void.

    Args:
        root: Folder that holds ``coco``, or that folder; None: FEWSHOT_DATA.
        year: "2014", as in the papers that use COCO-20i, or "2017".
        options: See PhotoSegmentation.
    """

    def __init__(self, root: str | None = None, year: str = "2014", **options) -> None:
        super().__init__(root, **options)
        self.year = year

    def read_photos(self) -> list[MaskedPhoto]:
        """Read both parts; the validation photos are for evaluation only."""
        folder = find_root(self.root, DOWNLOAD)
        photos: list[MaskedPhoto] = []
        skipped = SkippedItems()
        for part in ("train", "val"):
            path = folder / f"annotations/instances_{part}{self.year}.json"
            if not path.exists():
                raise FileNotFoundError(f"{path} does not exist: set data.year to the year that you have")
            record = read_record(path, skipped)
            label = self.labels_of(record.classes)
            for image in record.images:
                mask = read_objects(image, folder / f"{part}{self.year}", label, skipped)
                photos.append(self._photo(image.file_name, folder / f"{part}{self.year}", mask, part == "val"))
        skipped.warn("objects of COCO-20i")
        return photos

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Draw the objects of a photo, larger ones first."""
        width, height = photo.mask.size
        labels = np.zeros((height, width), np.int16)
        for item in sorted(photo.mask.objects, key=lambda item: -item.area):
            labels[draw(item.mask, photo.mask.size)] = UNKNOWN if item.crowd else item.label
        return labels

    def _photo(self, name: str, folder: Path, mask: DrawnMask, evaluation_only: bool) -> MaskedPhoto:
        areas = np.zeros(len(self._names) + 1)
        for item in mask.objects:
            areas[item.label] += 0 if item.crowd else item.area
        return MaskedPhoto(
            name=name,
            path=folder / name,
            mask=mask,
            classes=self.seen_names(areas, self._names),
            evaluation_only=evaluation_only,
        )


def read_objects(image: CocoImage, folder: Path, label: Mapping[Hashable, int], skipped: SkippedItems) -> DrawnMask:
    """Return the objects of a photo that can be drawn; others go to ``skipped``.

    Args:
        image: An entry of the json.
        folder: Where its file is: the size is read from it if the json states none.
        label: Label of each category number.
        skipped: Takes the others.
    """
    size = image.size or image_size(folder / image.file_name)
    objects = []
    for place, row in image.rows:
        mask = read_mask_entry(row.get("segmentation"), size)
        if isinstance(mask, str):
            skipped.add(f"{image.file_name} {place}", mask)
            continue
        area = as_number(row.get("area"))
        area = mask.area if area is None or area < 0 else area
        objects.append(DrawnObject(mask, area, label[as_key(row["category_id"])], is_crowd(row)))
    return DrawnMask(size, objects)
