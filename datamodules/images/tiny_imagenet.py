"""Read Tiny-ImageNet (Stanford CS231n): 64 x 64 photos of 200 classes with one box each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.images.boxed_photo import Photo
from datamodules.images.reading import SkippedItems, clean_boxes
from datamodules.images.roots import Download

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
    for table in sorted(folder.glob("train/n*/*_boxes.txt")):
        for line in table.read_text().splitlines():
            name, *numbers = line.split()
            x1, y1, x2, y2 = map(float, numbers)
            boxes, bad = clean_boxes(np.array([[x1, y1, x2 + 1, y2 + 1]]), SIDE, SIDE)  # the last pixel is inside
            path = table.parent / "images" / name
            if bad or not path.exists():
                skipped.add(name, *(bad.values() or ["no such file"]))
            else:
                photos.append(Photo(name=name, path=path, boxes=boxes, classes=(table.parent.name,)))
    skipped.warn("photos of Tiny-ImageNet")
    return photos


def read_titles(folder: Path) -> dict[str, str]:
    """Read a readable name of each class, such as "tarantula", by its WordNet id."""
    lines = (line.split("\t") for line in (folder / "words.txt").read_text().splitlines())
    return {wnid: words.split(",")[0] for wnid, words in lines}
