"""GroceryStore (Klasson et al., WACV 2019): lists of files with a fine and a coarse class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import PARTS, ClassImage
from datamodules.images.roots import Download, find_root
from lightning_fewshot.text import inner_path, read_csv, read_lines

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
            for number, line in read_lines(path) if path.is_file() else ():
                row, place = [word.strip() for word in line.split(",")], f"{path} line {number}"
                if len(row) <= column or row[column] not in names:
                    raise ValueError(f"{place} is {line[:80]!r} but must be an image and two classes of classes.csv")
                official = part if has_test or part == "train" else "test"
                name = inner_path(row[0], place)
                images.append(ClassImage(name, names[row[column]], folder / name, official))
        return images


def _class_names(path: Path, level: str) -> dict[str, str]:
    number, title = (1, 0) if level == "fine" else (3, 2)
    rows = [row for row in read_csv(path)[1:] if row]
    if short := next((row for row in rows if len(row) <= number), None):
        raise ValueError(f"{path} has the row {short} but must have a name and a number of each class")
    return {row[number]: row[title] for row in rows}
