"""Oxford Flowers-102 (Nilsback and Zisserman, 2008): the lists of the official three parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import PARTS, ClassImage
from datamodules.images.matlab import read_mat, whole_numbers
from datamodules.images.roots import Download, find_root

DATA = Download(
    "flowers-102",
    ("jpg", "imagelabels.mat", "setid.mat"),
    "102flowers.tgz, imagelabels.mat and setid.mat",
    "its authors (https://www.robots.ox.ac.uk/~vgg/data/flowers/102)",
)
KEYS = dict(zip(PARTS, ("trnid", "valid", "tstid"), strict=True))


class Flowers102(ClassImages):
    """Flowers of 102 species.

    Args:
        root: Folder that holds ``flowers-102``, or is it; None takes FEWSHOT_DATA.
        options: See :class:`ClassImages`.
    """

    def __init__(self, root: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def list_images(self) -> list[ClassImage]:
        """Read the official lists; the species are numbered, as published, from 1."""
        folder = find_root(self.root, DATA)
        path = folder / "imagelabels.mat"
        labels = whole_numbers(read_mat(path, ["labels"])["labels"], f"{path}: labels")
        return [
            ClassImage(f"image_{i:05d}.jpg", f"{labels[i - 1]:03d}", folder / f"jpg/image_{i:05d}.jpg", part)
            for part, numbers in _parts(folder / "setid.mat", len(labels)).items()
            for i in numbers
        ]


def _parts(path: Path, n_images: int) -> dict[str, list[int]]:
    """Return the numbers of the images of each part."""
    content = read_mat(path, list(KEYS.values()))
    parts = {part: whole_numbers(content[key], f"{path}: {key}") for part, key in KEYS.items()}
    if (most := max(max(numbers, default=0) for numbers in parts.values())) > n_images:
        raise ValueError(f"{path} has image {most} but imagelabels.mat has {n_images} labels")
    return parts
