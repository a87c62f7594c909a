"""Read COCO's json layout (Lin et al. 2014): photos with boxes of 80 classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.images.boxed_photo import IgnoredObjects, Photo
from datamodules.images.coco_json import CocoImage, as_key, is_crowd, read_record
from datamodules.images.coco_masks import bounding_box
from datamodules.images.reading import SkippedItems, clean_boxes
from datamodules.images.roots import Download, find_root
from lightning_fewshot.images import image_size
from lightning_fewshot.text import as_number

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


def read_coco(annotations: Path, images: Path, locate: Callable[[str], Path] | None = None) -> list[Photo]:
    """Read a COCO json. Crowds are ignored objects; rows that cannot be used are skipped, counted and listed.

    Args:
        annotations: The json file.
        images: The folder that its ``file_name`` entries are in.
        locate: Finds the file of an entry in another way.

    Raises:
        FileNotFoundError: There is no such file, or no image whose size is not stated.
        ValueError: The file is truncated, or is no COCO json; names the entry.
    """
    skipped = SkippedItems()
    record = read_record(annotations, skipped)
    find = locate or (lambda name: images / name)
    photos = [_photo(image, find(image.file_name), record.classes, annotations, skipped) for image in record.images]
    skipped.warn(f"boxes of {annotations.name}")
    return photos


def _photo(image: CocoImage, path: Path, names: dict, source: Path, skipped: SkippedItems) -> Photo:
    width, height = image.size or image_size(path)
    stated = [(place, row, read_box(row, f"{source}: {place}")) for place, row in image.rows]
    usable = [(place, row, box) for place, row, box in stated if box is not None]
    for place, _, box in stated:
        if box is None:
            skipped.add(f"{image.file_name} {place}", "no box")
    boxes, bad = clean_boxes(np.array([box for *_, box in usable]), width, height)
    for i, reason in bad.items():
        skipped.add(f"{image.file_name} {usable[i][0]}", reason)
    kept = [i for i in range(len(usable)) if i not in bad]
    crowds = [i for i in kept if is_crowd(usable[i][1])]
    objects = [i for i in kept if i not in crowds]
    classes = [names[as_key(row["category_id"])] for _, row, _ in usable]
    return Photo(
        name=image.file_name,
        path=path,
        boxes=boxes[objects],
        classes=tuple(classes[i] for i in objects),
        size=(width, height),
        ignored=IgnoredObjects(boxes[crowds], tuple(classes[i] for i in crowds), np.ones(len(crowds), bool)),
        n_skipped=len(stated) - len(kept),
    )


def read_box(row: dict[str, Any], source: str) -> tuple[float, ...] | None:
    """Return the box ``(x1, y1, x2, y2)`` of an annotation, of its polygons where it has none; None: it has neither.

    Raises:
        ValueError: There is a list of another length than 4, which is no box of COCO's.
    """
    stated = row.get("bbox")
    if stated is None or stated == []:
        return bounding_box(row.get("segmentation"))
    if isinstance(stated, list) and len(stated) != 4:
        raise ValueError(f"{source} has a bbox of {len(stated)} numbers but COCO's have 4: x, y, width, height")
    numbers = [as_number(value) for value in stated] if isinstance(stated, list) else [None]
    if None in numbers:
        return None
    x, y, width, height = numbers
    return x, y, x + width, y + height
