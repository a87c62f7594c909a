"""COCO (Lin et al. 2014): photos with boxes of 80 classes, in COCO's json layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from datamodules.detection.base import Photo, PhotoDetection
from datamodules.images.reading import SkippedItems, clean_boxes
from datamodules.images.roots import Download, find_root

DOWNLOAD = Download(
    "coco",
    ("train2017", "val2017", "annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    "train2017.zip, val2017.zip and annotations_trainval2017.zip",
    "the COCO consortium, https://cocodataset.org/#download,",
)
# The 20 classes that COCO shares with PASCAL VOC, by COCO's names: novel in few-shot detection on COCO
# (Kang et al. 2019, "Few-shot object detection via feature reweighting", section 4.1).
NOVEL_CLASSES = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "boat",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "bottle",
    "chair",
    "couch",
    "potted plant",
    "dining table",
    "tv",
)


class CocoDetection(PhotoDetection):
    """Few-shot detection on COCO: train on train2017, evaluate on val2017.

    Args:
        root: Folder that holds ``coco``, or that folder; None: FEWSHOT_DATA.
        novel_classes: Classes kept for testing; the default is the 20 that COCO shares with PASCAL VOC.
        options: See PhotoDetection.
    """

    def __init__(self, root: str | None = None, novel_classes: list[str] | None = None, **options) -> None:
        super().__init__(**options)
        self.root, self.novel_classes = root, novel_classes

    def novel_names(self) -> tuple[str, ...]:
        """Return the classes kept for testing."""
        return NOVEL_CLASSES if self.novel_classes is None else self.check_named(self.novel_classes)

    def read_photos(self) -> list[Photo]:
        """Read both parts; val2017 is held out."""
        folder = find_root(self.root, DOWNLOAD)
        return [
            photo._replace(held_out=part == "val2017")
            for part in ("train2017", "val2017")
            for photo in read_coco(folder / f"annotations/instances_{part}.json", folder / part)
        ]


def read_coco(annotations: Path, images: Path) -> list[Photo]:
    """Read a COCO json. Crowds are left out; unusable boxes are skipped, counted and listed.

    Args:
        annotations: The json file.
        images: The folder that its ``file_name`` entries are in.

    Raises:
        ValueError: The file is truncated, or is no COCO json.
    """
    try:
        record = json.loads(annotations.read_text())
        names = {c["id"]: c["name"] for c in record["categories"]}
        rows: dict[int, list[dict]] = {image["id"]: [] for image in record["images"]}
        for row in record["annotations"]:
            if not row.get("iscrowd", 0):
                rows[row["image_id"]].append(row)
        skipped = SkippedItems()
        photos = [_photo(image, rows[image["id"]], names, images, skipped) for image in record["images"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{annotations} is truncated or no COCO json: {error!r}") from error
    skipped.warn(f"boxes of {annotations.name}")
    return photos


def _photo(image: dict, rows: list[dict], names: dict[int, str], folder: Path, skipped: SkippedItems) -> Photo:
    boxes_xywh = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    boxes = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
    width, height = image["width"], image["height"]
    boxes, bad = clean_boxes(boxes, width, height)
    for i, reason in bad.items():
        skipped.add(f"{image['file_name']} box {rows[i].get('id', i)}", reason)
    kept = [i for i in range(len(rows)) if i not in bad]
    classes = tuple(names[rows[i]["category_id"]] for i in kept)
    return Photo(image["file_name"], folder / image["file_name"], boxes[kept], classes, (width, height))
