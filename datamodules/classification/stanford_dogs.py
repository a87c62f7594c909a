"""Stanford Dogs (Khosla et al., 2011): 120 breeds in class folders, the official train_list.mat and test_list.mat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import ClassImage
from datamodules.images.matlab import read_mat, texts
from datamodules.images.roots import Download, find_root
from lightning_fewshot.text import inner_path

DATA = Download(
    "stanford_dogs",
    ("Images", "train_list.mat", "test_list.mat"),
    "Stanford Dogs (images.tar and lists.tar)",
    "its authors (http://vision.stanford.edu/aditya86/ImageNetDogs)",
)


class StanfordDogs(ClassImages):
    """Dogs of 120 breeds.

    Args:
        root: Folder that holds ``stanford_dogs``, or is it; None takes FEWSHOT_DATA.
        options: See :class:`ClassImages`.
    """

    def __init__(self, root: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def list_images(self) -> list[ClassImage]:
        """Read the official lists."""
        folder = find_root(self.root, DATA)
        return [image for part in ("train", "test") for image in _read(folder, part)]


def _read(folder: Path, part: str) -> list[ClassImage]:
    path = folder / f"{part}_list.mat"
    names = texts(read_mat(path, ["file_list"])["file_list"], f"{path}: file_list")
    names = [inner_path(name, f"{path} row {row}") for row, name in enumerate(names, 1)]
    return [ClassImage(name, _breed(name), folder / "Images" / name, part) for name in names]


def _breed(name: str) -> str:
    """Return the breed of ``n02085620-Chihuahua/n02085620_5927.jpg``."""
    return name.partition("/")[0].partition("-")[2]
