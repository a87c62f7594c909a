"""Caltech-UCSD Birds: the official layout of CUB-200-2011, or class folders alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import ClassImage, class_folders
from datamodules.images.roots import Download, find_root
from lightning_fewshot.text import inner_path, read_lines

FOLDERS = ("CUB_200_2011", "cub100")
DATA = Download(
    "CUB_200_2011", ("images",), "CUB-200-2011", "Caltech (https://www.vision.caltech.edu/datasets/cub_200_2011)"
)


class CUB(ClassImages):
    """Birds of 200 species; with ``train_test_split.txt`` the closed set is the official one.

    Args:
        root: Folder that holds ``CUB_200_2011`` or ``cub100``, or is it; None takes FEWSHOT_DATA.
        options: See :class:`ClassImages`.
    """

    def __init__(self, root: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def list_images(self) -> list[ClassImage]:
        """List the images, with the official parts where the lists are there."""
        folder = self._folder()
        if not (folder / "train_test_split.txt").is_file():
            return class_folders(folder / "images")
        names, training = _table(folder / "images.txt"), _table(folder / "train_test_split.txt")
        if lacking := sorted(names.keys() - training.keys()):
            raise ValueError(f"{folder / 'train_test_split.txt'} says nothing of image {lacking[0]} of images.txt")
        images = []
        for number, name in names.items():
            inner = inner_path(name, f"{folder / 'images.txt'} image {number}")
            part = "train" if training[number] == "1" else "test"
            images.append(ClassImage(inner, Path(inner).parent.name, folder / "images" / inner, part))
        return images

    def _folder(self) -> Path:
        for name in FOLDERS[1:]:
            try:
                return find_root(self.root, DATA._replace(folder=name))
            except FileNotFoundError:
                continue
        return find_root(self.root, DATA)


def _table(path: Path) -> dict[str, str]:
    """Read a list of numbers and what each stands for."""
    table = {}
    for number, line in read_lines(path):
        key, _, value = line.partition(" ")
        if not value.strip():
            raise ValueError(f"{path} line {number} is {line[:60]!r} but must be an image's number and a value")
        table[key] = value.strip()
    return table
