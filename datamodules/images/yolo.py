"""Read the YOLO layout: a text file an image, a line an object: class number, then a box or a polygon, in [0, 1].

A box is centre, width and height; a polygon is its points. Three layouts are around: ``images/<part>`` and
``labels/<part>``, ``<part>/images`` and ``<part>/labels``, and coco128's ``object_detection/labels/<part>``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.images.boxed_photo import Photo
from datamodules.images.reading import SkippedItems, clean_boxes
from datamodules.images.roots import Download, find_root
from lightning_fewshot.folders import IMAGE_SUFFIXES, data_files, same_name
from lightning_fewshot.images import image_size
from lightning_fewshot.text import as_number, fields, read_lines, read_yaml

DOWNLOAD = Download(
    folder="coco128",
    needs=("images", "object_detection/labels", "object_detection/config.yaml"),
    what="coco128 with boxes in YOLO's text layout (images/, object_detection/labels/, object_detection/config.yaml)",
    source="Ultralytics, https://docs.ultralytics.com/datasets/detect/coco128,",
)
LAYOUTS = (DOWNLOAD, DOWNLOAD._replace(needs=("images", "labels")), DOWNLOAD._replace(needs=("*/images", "*/labels")))
CONFIGS = ("object_detection/config.yaml", "data.yaml", "dataset.yaml", "classes.txt", "labels/classes.txt")
EVALUATED = ("val", "test")  # beginnings of the names of folders whose photos are not trained on


def read_yolo_photos(root: str | None) -> list[Photo]:
    """Read all label files below a root; photos in ``val*`` and ``test*`` are for evaluation only."""
    folder = _find_folder(root)
    names, skipped = read_names(folder), SkippedItems()
    paths = [p for p in data_files(folder, IMAGE_SUFFIXES) if "images" in p.relative_to(folder).parts[:-1]]
    tables = {_key(t, folder): t for t in data_files(folder, (".txt",)) if "labels" in t.relative_to(folder).parts[:-1]}
    photos = [_photo(folder, path, tables.get(_key(path, folder)), names, skipped) for path in paths]
    for key in sorted(tables.keys() - {_key(path, folder) for path in paths}):
        if tables[key].name != "classes.txt":
            skipped.add(str(tables[key].relative_to(folder)), "no photo of that name")
    skipped.warn(f"boxes of {folder.name}")
    return photos


def read_names(folder: Path) -> dict[int, str]:
    """Return the class of each number: a table or list ``names`` in a yaml, or a line each of ``classes.txt``.

    Raises:
        FileNotFoundError: There is none of them.
        ValueError: It has no such table.
    """
    path = next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} has none of {', '.join(CONFIGS)}, which name the classes")
    if path.suffix == ".txt":
        return dict(enumerate(line for _, line in read_lines(path)))
    record = read_yaml(path)
    names = record.get("names") if isinstance(record, dict) else None
    rows = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(rows, dict) or not rows:
        raise ValueError(f"{path} has no table 'names' of the classes")
    numbers = {key: as_number(key) for key in rows}
    for key, name in rows.items():
        if numbers[key] is None or isinstance(name, bool) or not isinstance(name, (str, int)):
            raise ValueError(f"{path}: names has {str(key)[:40]!r}: {type(name).__name__!s}, expected number: name")
    return {int(numbers[key]): str(name) for key, name in rows.items()}


def read_table(path: Path, names: dict[int, str]) -> tuple[np.ndarray, list[str], list[int]]:
    """Read a label file: boxes ``(M, 4)`` (x1, y1, x2, y2) in [0, 1], the class and the line of each.

    Raises:
        ValueError: A line is neither a box nor a polygon of these classes; names the line.
    """
    boxes, classes, lines = [], [], []
    for number, line in read_lines(path):
        values = [as_number(field) for field in fields(line)]
        good = None not in values and (len(values) == 5 or (len(values) >= 7 and len(values) % 2 == 1))
        if not good or values[0] not in names:
            raise ValueError(
                f"{path} line {number} is no YOLO label of these {len(names)} classes: {line[:80]!r}; expected a class "
                "and 4 numbers, or a class and the points of a polygon"
            )
        boxes.append(_box(np.array(values[1:])))
        classes.append(names[int(values[0])])
        lines.append(number)
    return np.array(boxes, np.float64).reshape(-1, 4), classes, lines


def _box(numbers: np.ndarray) -> np.ndarray:
    if len(numbers) == 4:
        return np.concatenate([numbers[:2] - numbers[2:] / 2, numbers[:2] + numbers[2:] / 2])
    points = numbers.reshape(-1, 2)
    return np.concatenate([points.min(0), points.max(0)])


def _photo(folder: Path, path: Path, table: Path | None, names: dict[int, str], skipped: SkippedItems) -> Photo:
    relative, classes, lines = np.zeros((0, 4)), [], []
    if table is not None:
        relative, classes, lines = read_table(table, names)
    width, height = image_size(path)
    boxes = (relative * np.array([width, height] * 2)).astype(np.float32)
    boxes, bad = clean_boxes(boxes, width, height)
    for i, reason in bad.items():
        skipped.add(f"{path.name} line {lines[i]}", reason)
    kept = [i for i in range(len(boxes)) if i not in bad]
    return Photo(
        name=path.name,
        path=path,
        boxes=boxes[kept],
        classes=tuple(classes[i] for i in kept),
        size=(width, height),
        evaluation_only=any(part.startswith(EVALUATED) for part in path.relative_to(folder).parts[:-1]),
        n_skipped=len(bad),
    )


def _find_folder(root: str | None) -> Path:
    for layout in LAYOUTS[1:]:
        try:
            return find_root(root, LAYOUTS[0])
        except FileNotFoundError:
            try:
                return find_root(root, layout)
            except FileNotFoundError:
                continue
    return find_root(root, DOWNLOAD)


def _key(path: Path, folder: Path) -> str:
    """Return what a photo and its label file share: the path without suffix and the folder that tells them apart."""
    parts = [part for part in path.relative_to(folder).with_suffix("").parts if part != "object_detection"]
    where = max(i for i, part in enumerate(parts[:-1]) if part in ("images", "labels"))
    return same_name("/".join(parts[:where] + parts[where + 1 :]))
