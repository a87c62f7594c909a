"""COCO panoptic (Kirillov et al., CVPR 2019): 133 classes of things and stuff, one PNG a photo, ids in its colors."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.images.coco_json import CocoImage, as_key, entries, is_crowd, read_classes, read_images
from datamodules.images.mask_reading import UNKNOWN
from datamodules.images.reading import SkippedItems
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.coco20i import CocoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto
from lightning_fewshot.images import read_image
from lightning_fewshot.text import as_number, inner_path, read_json

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
        skipped = SkippedItems()
        for part in ("train2017", "val2017"):
            path = annotations / f"panoptic_{part}.json"
            photos += self._photos_of(path, images / part, skipped, evaluation_only=part == "val2017")
        skipped.warn("entries of COCO's panoptic masks")
        return photos

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo; what belongs to no segment is void."""
        red, green, blue = np.moveaxis(read_image(photo.mask.path).astype(np.int64), 2, 0)
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

    def _photos_of(self, path: Path, images: Path, skipped: SkippedItems, evaluation_only: bool) -> list[MaskedPhoto]:
        """Return the photos of a part; masks lie in a folder with the json's name."""
        record = read_json(path)
        categories = entries(record, "categories", path)
        names = read_classes(categories, path)
        things = {as_key(row["id"]) for row in categories if as_number(row.get("isthing", 1)) != 0}
        label = self.labels_of({number: name for number, name in names.items() if self.stuff or number in things})
        listed, photos = read_images(entries(record, "images", path), path), []
        for i, row in enumerate(entries(record, "annotations", path)):
            image = listed.get(as_key(row.get("image_id"))) if isinstance(row, dict) else None
            if image is None or not isinstance(row.get("segments_info"), list):
                skipped.add(f"{path.name} annotation {i}", "no listed image, or no segments_info")
                continue
            mask = path.with_suffix("") / inner_path(row.get("file_name"), f"{path}: annotation {i}")
            segments, areas = self._segments(row["segments_info"], label, f"{path.name} annotation {i}", skipped)
            photos.append(
                self._photo(image, images, Segments(mask, segments), areas)._replace(evaluation_only=evaluation_only)
            )
        return photos

    def _segments(
        self, rows: list[Any], label: Mapping[Hashable, int], place: str, skipped: SkippedItems
    ) -> tuple[dict[int, int], np.ndarray]:
        """Return the label of each segment of a mask, and the pixels of each label."""
        areas, labels = np.zeros(len(self._names) + 1), {}
        for row in rows:
            number, area = (as_key(row.get("id")), as_number(row.get("area"))) if isinstance(row, dict) else (None, 0)
            if not isinstance(number, int) or area is None:
                skipped.add(place, "a segment without id or area")
                continue
            value = label.get(as_key(row.get("category_id")), 0)
            labels[number] = UNKNOWN if is_crowd(row) else value
            areas[value] += 0 if is_crowd(row) else area
        return labels, areas

    def _photo(self, image: CocoImage, folder: Path, mask: Segments, areas: np.ndarray) -> MaskedPhoto:
        path = folder / image.file_name
        return MaskedPhoto(name=path.name, path=path, mask=mask, classes=self.seen_names(areas, self._names))
