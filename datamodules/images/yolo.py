"""Read the YOLO layout: a text file an image, a line an object: class number, centre, width and height in [0, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from datamodules.images.boxed_photo import Photo
from datamodules.images.reading import SkippedItems, clean_boxes, photo_size
from datamodules.images.roots import Download, find_root

DOWNLOAD = Download(
    folder="coco128",
    needs=("images", "object_detection/labels", "object_detection/config.yaml"),
    what="coco128 with boxes in YOLO's text layout (images/, object_detection/labels/, object_detection/config.yaml)",
    source="Ultralytics, https://docs.ultralytics.com/datasets/detect/coco128,",
)


def read_yolo_photos(root: str | None) -> list[Photo]:
    """Read all label files below a root; ``images/val*`` is for evaluation only."""
    folder = find_root(root, DOWNLOAD)
    names, skipped = _names(folder / "object_detection/config.yaml"), SkippedItems()
    files = sorted(f for f in (folder / "images").glob("*/*") if f.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photos = [_photo(folder, path, names, skipped) for path in files]
    skipped.warn(f"boxes of {folder.name}")
    return photos


def _photo(folder: Path, path: Path, names: dict[int, str], skipped: SkippedItems) -> Photo:
    table = folder / "object_detection/labels" / path.parent.name / f"{path.stem}.txt"
    lines = table.read_text().splitlines() if table.exists() else []
    try:
        rows = np.array([line.split()[:5] for line in lines], np.float32).reshape(-1, 5)
        classes = [names[int(number)] for number in rows[:, 0]]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{table} is no YOLO label file for these {len(names)} classes: {error!r}") from error
    width, height = photo_size(path)
    centre, half = rows[:, 1:3], rows[:, 3:5] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1) * np.array([width, height] * 2, np.float32)
    boxes, bad = clean_boxes(boxes, width, height)
    for i, reason in bad.items():
        skipped.add(f"{path.name} line {i + 1}", reason)
    kept = [i for i in range(len(rows)) if i not in bad]
    evaluation_only = path.parent.name.startswith("val")
    return Photo(
        name=path.name,
        path=path,
        boxes=boxes[kept],
        classes=tuple(classes[i] for i in kept),
        size=(width, height),
        evaluation_only=evaluation_only,
    )


def _names(config: Path) -> dict[int, str]:
    """Read the ``names:`` table, whose entries are ``number: name`` (a list would do as well)."""
    names = yaml.safe_load(config.read_text())["names"]
    return dict(enumerate(names)) if isinstance(names, list) else {int(k): str(v) for k, v in names.items()}
