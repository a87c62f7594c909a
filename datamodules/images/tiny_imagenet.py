"""Read Tiny-ImageNet (Stanford CS231n): 64 x 64 photos of 200 classes with one box each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.images.boxed_photo import Photo
from datamodules.images.reading import SkippedItems, clean_boxes
from datamodules.images.roots import Download
from lightning_fewshot.files import is_litter_name
from lightning_fewshot.text import as_number, fields, inner_path, read_lines

SIDE = 64  # pixels of every photo
DOWNLOAD = Download(
    folder="tiny-imagenet-200",
    needs=("train/n*/*_boxes.txt", "words.txt"),
    what="tiny-imagenet-200.zip",
    source="Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip,",
)


def read_tiny_imagenet(folder: Path) -> list[Photo]:
    """Read the training part: the one with boxes and classes. Unusable boxes are skipped, counted and listed."""
    photos, skipped = [], SkippedItems()
    for path, name, corners in read_rows(folder):
        boxes, bad = clean_boxes(np.array([corners]), SIDE, SIDE)
        if bad or not path.exists():
            skipped.add(name, *(bad.values() or ["no such file"]))
        else:
            photos.append(Photo(name=name, path=path, boxes=boxes, classes=(path.parents[1].name,)))
    skipped.warn("photos of Tiny-ImageNet")
    return photos


def read_rows(folder: Path) -> Iterator[tuple[Path, str, tuple[float, ...]]]:
    """Yield file, name and box ``(x1, y1, x2, y2)`` of each photo; the last pixel is inside.

    Raises:
        ValueError: A line is no name and box; names the line.
    """
    for table in sorted(t for t in folder.glob("train/n*/*_boxes.txt") if not is_litter_name(t.name)):
        for number, line in read_lines(table):
            name, *numbers = fields(line)
            corners = [as_number(value) for value in numbers]
            if len(corners) != 4 or None in corners:
                raise ValueError(f"{table} line {number} is no name and box: {line[:80]!r}")
            name = inner_path(name, f"{table} line {number}")
            yield table.parent / "images" / name, name, (*corners[:2], corners[2] + 1, corners[3] + 1)


def read_titles(folder: Path) -> dict[str, str]:
    """Read a readable name of each class, such as "tarantula", by its WordNet id."""
    lines = (line.split("\t") for _, line in read_lines(folder / "words.txt"))
    return {row[0]: row[-1].split(",")[0] for row in lines}
