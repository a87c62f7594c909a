"""The parts of a COCO json, checked: what is unambiguous is taken, rows that cannot be used are counted and named."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.images.reading import SkippedItems
from lightning_fewshot.images import MAX_PIXELS
from lightning_fewshot.text import as_number, inner_path, read_json


class CocoImage(NamedTuple):
    """An entry of ``images``.

    Args:
        file_name: Relative path.
        size: (width, height); None: not stated.
        rows: Its annotations: each the place in the json and the entry.
    """

    file_name: str
    size: tuple[int, int] | None
    rows: list[tuple[str, dict[str, Any]]]


class CocoRecord(NamedTuple):
    """A COCO json.

    Args:
        classes: Name of each category number, in the order of the file.
        images: In the order of the file, with their annotations.
    """

    classes: dict[Hashable, str]
    images: list[CocoImage]


def read_record(path: Path, skipped: SkippedItems) -> CocoRecord:
    """Read a COCO json; annotations of no listed image or category go to ``skipped``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or no COCO json; names the entry.
    """
    record = read_json(path)
    classes = read_classes(entries(record, "categories", path), path)
    images = read_images(entries(record, "images", path), path)
    for i, row in enumerate(entries(record, "annotations", path)):
        number = row.get("id", i) if isinstance(row, dict) else i
        place = f"annotation {str(number)[:40]}"
        if not isinstance(row, dict):
            skipped.add(place, "no entry of an annotation")
        elif (image := images.get(as_key(row.get("image_id")))) is None:
            skipped.add(place, f"image_id {str(row.get('image_id'))[:40]} is not listed")
        elif as_key(row.get("category_id")) not in classes:
            skipped.add(f"{image.file_name} {place}", f"category_id {str(row.get('category_id'))[:40]} is not listed")
        else:
            image.rows.append((place, row))
    return CocoRecord(classes, list(images.values()))


def entries(record: Any, name: str, path: Path) -> list[Any]:
    """Return a list of a json.

    Raises:
        ValueError: There is none.
    """
    if not isinstance(record, dict) or not isinstance(record.get(name), list):
        raise ValueError(f"{path} is no COCO json: it has no list {name!r}")
    return record[name]


def read_classes(rows: list[Any], path: Path) -> dict[Hashable, str]:
    """Return the name of each category number.

    Raises:
        ValueError: A category without number or name, or one number for two names.
    """
    classes: dict[Hashable, str] = {}
    for i, row in enumerate(rows):
        number, name = (as_key(row.get("id")), row.get("name")) if isinstance(row, dict) else (None, None)
        if number is None or isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
            raise ValueError(f"{path}: categories[{i}] has no id or no name: {str(row)[:80]}")
        if classes.setdefault(number, str(name).strip()) != str(name).strip():
            raise ValueError(f"{path}: categories[{i}] has the id {number} of {classes[number]!r}")
    return classes


def read_images(rows: list[Any], path: Path) -> dict[Hashable, CocoImage]:
    """Return the images by number.

    Raises:
        ValueError: An image without number or file name, a number or file that is listed twice, or a file outside.
    """
    images: dict[Hashable, CocoImage] = {}
    numbers: dict[str, Hashable] = {}
    for i, row in enumerate(rows):
        number = as_key(row.get("id")) if isinstance(row, dict) else None
        if number is None:
            raise ValueError(f"{path}: images[{i}] has no id: {str(row)[:80]}")
        name = inner_path(row.get("file_name"), f"{path}: images[{i}]")
        if number in images:
            raise ValueError(f"{path}: images[{i}] ({name}) has the id {number} of {images[number].file_name}")
        if name in numbers:
            raise ValueError(f"{path} lists {name} twice, as image {numbers[name]} and {number}")
        images[number] = CocoImage(name, as_size(row.get("width"), row.get("height")), [])
        numbers[name] = number
    return images


def as_key(value: Any) -> Hashable | None:
    """Return a number of an entry, which some tools write as text; None: it is none.

    >>> [as_key(v) for v in (7, "7", 7.0, "a7", None, True, [7])]
    [7, 7, 7, 'a7', None, None, None]
    """
    number = as_number(value)
    if number is not None and number == int(number):
        return value if isinstance(value, int) else int(number)
    return value.strip() or None if isinstance(value, str) else None


def as_size(width: Any, height: Any) -> tuple[int, int] | None:
    """Return (width, height) if a file states a possible size, as number or text.

    >>> as_size("80", 60.0), as_size(0, 0), as_size(None, 60), as_size(10**9, 10**9)
    ((80, 60), None, None, None)
    """
    sides = as_number(width), as_number(height)
    if None in sides or min(sides) < 1 or sides[0] * sides[1] > MAX_PIXELS:
        return None
    return int(sides[0]), int(sides[1])


def is_crowd(row: dict[str, Any]) -> bool:
    """Return whether an annotation is a region with many objects."""
    return as_number(int(row["iscrowd"]) if isinstance(row.get("iscrowd"), bool) else row.get("iscrowd")) == 1
