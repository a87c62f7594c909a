"""Oxford-IIIT Pets (Parkhi et al., CVPR 2012) for classification: 37 breeds, the official trainval and test lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import ClassImage
from datamodules.images.roots import Download, find_root
from lightning_fewshot.text import inner_path, read_lines

DATA = Download(
    "oxford-iiit-pet",
    ("images", "annotations/trainval.txt", "annotations/test.txt"),
    "the Oxford-IIIT Pet Dataset",
    "its authors (https://www.robots.ox.ac.uk/~vgg/data/pets)",
)


class Pets37(ClassImages):
    """Cats and dogs of 37 breeds.

    Args:
        root: Folder that holds ``oxford-iiit-pet``, or is it; None takes FEWSHOT_DATA.
        options: See :class:`ClassImages`.
    """

    def __init__(self, root: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def list_images(self) -> list[ClassImage]:
        """Read the official lists."""
        folder = find_root(self.root, DATA)
        return [
            image for part, file in {"train": "trainval", "test": "test"}.items() for image in _read(folder, file, part)
        ]


def _read(folder: Path, file: str, part: str) -> list[ClassImage]:
    path = folder / f"annotations/{file}.txt"
    names = [inner_path(line.split()[0], f"{path} line {number}") for number, line in read_lines(path)]
    return [ClassImage(name, name.rpartition("_")[0], folder / "images" / f"{name}.jpg", part) for name in names]
