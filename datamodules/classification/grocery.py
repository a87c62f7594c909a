"""GroceryStore (Klasson et al., WACV 2019): lists of files with a fine and a coarse class."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Literal

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import PARTS, ClassImage
from datamodules.images.roots import Download, find_root

SOURCE = "its authors (https://github.com/marcusklasson/GroceryStoreDataset, folder dataset/)"
DATA = Download("grocery", ("classes.csv", "train.txt"), "GroceryStoreDataset", SOURCE)


class Grocery(ClassImages):
    """Groceries of 81 fine or 43 coarse classes, photographed in shops; the lists are the parts of a closed set.

    Where there is no ``test.txt``, ``val.txt`` is the test, and validation images come from the training list.

    Args:
        root: Folder that holds ``grocery``, or is it; None takes FEWSHOT_DATA.
        level: "fine" or "coarse" classes.
        options: See :class:`ClassImages`.
    """

    def __init__(self, root: str | None = None, level: Literal["fine", "coarse"] = "fine", **options: Any) -> None:
        super().__init__(**options)
        if level not in ("fine", "coarse"):
            raise ValueError(f"level is {level!r} but must be 'fine' or 'coarse'")
        self.root = root
        self.level = level

    def list_images(self) -> list[ClassImage]:
        """Read the lists."""
        folder = find_root(self.root, DATA)
        names = _class_names(folder / "classes.csv", self.level)
        column, images = (1 if self.level == "fine" else 2), []
        has_test = (folder / "test.txt").is_file()
        for part in PARTS:
            path = folder / f"{part}.txt"
            for line in path.read_text().splitlines() if path.is_file() else ():
                row = [word.strip() for word in line.split(",")]
                official = part if has_test or part == "train" else "test"
                images.append(ClassImage(row[0], names[row[column]], folder / row[0], official))
        return images


def _class_names(path: Path, level: str) -> dict[str, str]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {row[1]: row[0] for row in rows} if level == "fine" else {row[3]: row[2] for row in rows}
