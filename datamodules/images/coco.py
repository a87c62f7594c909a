"""Read COCO's json layout (Lin et al. 2014): photos with boxes of 80 classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from datamodules.images.boxed_photo import Photo
from datamodules.images.reading import SkippedItems, clean_boxes
from datamodules.images.roots import Download, find_root

DOWNLOAD = Download(
    folder="coco",
    needs=("train2017", "val2017", "annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    what="train2017.zip, val2017.zip and annotations_trainval2017.zip",
    source="the COCO consortium, https://cocodataset.org/#download,",
)
# The 20 classes that COCO shares with PASCAL VOC, by COCO's names: novel in few-shot detection on COCO
# (Kang et al. 2019, "Few-shot object detection via feature reweighting", section 4.1).
NOVEL_CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "boat", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "bottle", "chair", "couch", "potted plant", "dining table", "tv"),
)


def read_coco_photos(root: str | None) -> list[Photo]:
    """Read train2017 and val2017 below a root; val2017 is for evaluation only."""
    folder = find_root(root, DOWNLOAD)
    return [
        photo._replace(evaluation_only=part == "val2017")
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
    return Photo(
        name=image["file_name"],
        path=folder / image["file_name"],
        boxes=boxes[kept],
        classes=classes,
        size=(width, height),
    )
