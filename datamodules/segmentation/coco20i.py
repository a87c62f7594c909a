"""COCO-20i (Nguyen and Todorovic, ICCV 2019): COCO's 80 classes in four folds, every fourth class in one of them."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.images.mask_reading import UNKNOWN
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto

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

    def read_json(self, path: Path, images: Path, evaluation_only: bool) -> list[MaskedPhoto]:
        """Read the annotations of one part.

        Args:
            path: The json file.
            images: Folder of its photos.
            evaluation_only: Whether training must not see them.

        Raises:
            ValueError: The file is truncated or of another kind.
        """
        try:
            record = json.loads(path.read_text())
            categories = sorted((c["id"], c["name"]) for c in record["categories"] if self.kept(c))
            self._names = tuple(name for _, name in categories)
            label = {number: 1 + i for i, (number, _) in enumerate(categories)}
            return self.photos_of(record=record, label=label, path=path, images=images, evaluation_only=evaluation_only)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is truncated or no json of COCO's: {error!r}") from error

    def kept(self, category: Mapping[str, Any]) -> bool:
        """Say whether a category is one of the classes."""
        return True

    @abstractmethod
    def photos_of(
        self, record: Mapping[str, Any], label: Mapping[int, int], path: Path, images: Path, evaluation_only: bool
    ) -> list[MaskedPhoto]:
        """Return the photos of a json.

        Args:
            record: What the json holds.
            label: Label, 1 + i, of each category number that is a class.
            path: The json file.
            images: Folder of its photos.
            evaluation_only: Whether training must not see them.
        """


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
        for part in ("train", "val"):
            path = folder / f"annotations/instances_{part}{self.year}.json"
            if not path.exists():
                raise FileNotFoundError(f"{path} does not exist: set data.year to the year that you have")
            photos += self.read_json(path, folder / f"{part}{self.year}", part == "val")
        return photos

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Draw the polygons of a photo, larger objects first."""
        from pycocotools import mask as rle

        height, width, rows = photo.mask
        labels = np.zeros((height, width), np.int16)
        for row in sorted(rows, key=lambda row: -row["area"]):
            parts = row["segmentation"]
            if isinstance(parts, list):
                coded = rle.merge(rle.frPyObjects(parts, height, width))
            else:
                coded = rle.frPyObjects(parts, height, width) if isinstance(parts["counts"], list) else parts
            labels[rle.decode(coded).astype(bool)] = UNKNOWN if row["iscrowd"] else row["label"]
        return labels

    def photos_of(
        self, record: Mapping[str, Any], label: Mapping[int, int], path: Path, images: Path, evaluation_only: bool
    ) -> list[MaskedPhoto]:
        """Return the photos of a part; its polygons are drawn when they are asked for."""
        rows: dict[int, list[dict]] = {image["id"]: [] for image in record["images"]}
        for row in record["annotations"]:
            kept = {key: row[key] for key in ("segmentation", "area")}
            rows[row["image_id"]].append({**kept, "iscrowd": row.get("iscrowd", 0), "label": label[row["category_id"]]})
        return [self._photo(image, rows[image["id"]], images, evaluation_only) for image in record["images"]]

    def _photo(self, image: dict, rows: list[dict], folder: Path, evaluation_only: bool) -> MaskedPhoto:
        areas = np.zeros(len(self._names) + 1)
        for row in rows:
            areas[row["label"]] += 0 if row["iscrowd"] else row["area"]
        seen, mask = self.seen_names(areas, self._names), (image["height"], image["width"], rows)
        return MaskedPhoto(
            name=image["file_name"],
            path=folder / image["file_name"],
            mask=mask,
            classes=seen,
            evaluation_only=evaluation_only,
        )
