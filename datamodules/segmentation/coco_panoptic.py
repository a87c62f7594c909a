"""COCO panoptic (Kirillov et al., CVPR 2019): 133 classes of things and stuff, one PNG a photo, ids in its colors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.images.mask_reading import UNKNOWN
from datamodules.images.reading import read_photo
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.coco20i import CocoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto

WHAT = "train2017.zip, val2017.zip and panoptic_annotations_trainval2017.zip"
SOURCE = "the COCO consortium, https://cocodataset.org/#download,"
OFFICIAL = Download(
    folder="coco",
    needs=("annotations/panoptic_train2017.json", "annotations/panoptic_val2017.json"),
    what=WHAT,
    source=SOURCE,
)
SMALL = Download(  # the layout of coco128 with panoptic masks
    folder="coco128",
    needs=("panoptic_segmentation/annotations/panoptic_train2017.json", "images/train2017"),
    what=WHAT,
    source=SOURCE,
)


class Segments(NamedTuple):
    """Where the panoptic mask of a photo is, and the label of each segment in it."""

    path: Path
    labels: dict[int, int]


class CocoPanoptic(CocoSegmentation):
    """One-shot segmentation of COCO's things and stuff; every fourth class is a fold. val2017 is for evaluation only.

    Args:
        root: Folder that holds ``coco`` or ``coco128``, or that folder; None: FEWSHOT_DATA.
        stuff: Use stuff classes (sky, grass, ...) too; False: the 80 of things, all else is background.
        options: See PhotoSegmentation.
    """

    def __init__(self, root: str | None = None, stuff: bool = True, **options) -> None:
        super().__init__(root, **options)
        self.stuff = stuff

    def read_photos(self) -> list[MaskedPhoto]:
        """Read both parts."""
        annotations, images = self._folders()
        photos: list[MaskedPhoto] = []
        for part in ("train2017", "val2017"):
            photos += self.read_json(annotations / f"panoptic_{part}.json", images / part, part == "val2017")
        return photos

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo; what belongs to no segment is void."""
        red, green, blue = np.moveaxis(read_photo(photo.mask.path).astype(np.int64), 2, 0)
        ids, places = np.unique(red + 256 * green + 256**2 * blue, return_inverse=True)
        known = [photo.mask.labels.get(int(number), UNKNOWN) for number in ids]
        return np.array(known, np.int16)[places].reshape(red.shape)

    def _folders(self) -> tuple[Path, Path]:
        try:
            folder = find_root(self.root, OFFICIAL)
            return folder / "annotations", folder
        except FileNotFoundError:
            try:
                folder = find_root(self.root, SMALL)
            except FileNotFoundError:
                folder = None
            if folder is None:
                raise
            return folder / "panoptic_segmentation/annotations", folder / "images"

    def kept(self, category: Mapping[str, Any]) -> bool:
        """Say whether a category is one of the classes."""
        return self.stuff or bool(category["isthing"])

    def photos_of(
        self, record: Mapping[str, Any], label: Mapping[int, int], path: Path, images: Path, evaluation_only: bool
    ) -> list[MaskedPhoto]:
        """Return the photos of a part; masks lie in a folder with the json's name."""
        names = {image["id"]: image["file_name"] for image in record["images"]}
        return [
            self._photo(row, images / names[row["image_id"]], path.with_suffix(""), label, evaluation_only)
            for row in record["annotations"]
        ]

    def _photo(
        self, row: Mapping[str, Any], image: Path, masks: Path, label: Mapping[int, int], evaluation_only: bool
    ) -> MaskedPhoto:
        areas, labels = np.zeros(len(self._names) + 1), {}
        for segment in row["segments_info"]:
            number = label.get(segment["category_id"], 0)
            labels[segment["id"]] = UNKNOWN if segment.get("iscrowd", 0) else number
            areas[number] += 0 if segment.get("iscrowd", 0) else segment["area"]
        seen = self.seen_names(areas, self._names)
        return MaskedPhoto(
            name=image.name,
            path=image,
            mask=Segments(masks / row["file_name"], labels),
            classes=seen,
            evaluation_only=evaluation_only,
        )
