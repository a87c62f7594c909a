"""mini-ImageNet in the split of Ravi and Larochelle (ICLR 2017): train.csv, val.csv and test.csv over images/."""

from __future__ import annotations

from typing import Any

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import PARTS, ClassImage
from datamodules.images.roots import Download, find_root
from lightning_fewshot.text import inner_path, read_csv

SOURCE = "Ravi and Larochelle (https://github.com/twitter-research/meta-learning-lstm, data/miniImagenet)"
DATA = Download("miniimagenet", ("images", "*.csv"), "mini-ImageNet", SOURCE)


class MiniImageNet(ClassImages):
    """64, 16 and 20 classes of ImageNet to train, validate and test on.

    Args:
        root: Folder that holds ``miniimagenet``, or is it; None takes FEWSHOT_DATA.
        options: See :class:`ClassImages`.
    """

    def __init__(self, root: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def list_images(self) -> list[ClassImage]:
        """Read the lists that are there: a test needs test.csv alone."""
        folder = find_root(self.root, DATA)
        rows = [row for part in PARTS for row in self._rows(part)]
        return [ClassImage(name, label, folder / "images" / name) for name, label in rows]

    def class_parts(self) -> dict[str, set[str]]:
        """Return the classes of each list."""
        return {part: {label for _, label in self._rows(part)} for part in PARTS}

    def _rows(self, part: str) -> list[tuple[str, str]]:
        path = find_root(self.root, DATA) / f"{part}.csv"
        if not path.is_file():
            return []
        head, *rows = read_csv(path) or [[]]
        if not {"filename", "label"} <= set(head):
            raise ValueError(f"{path} has the columns {head[:5]} but must have filename and label")
        name, label = head.index("filename"), head.index("label")
        if short := next((row for row in rows if row and len(row) <= max(name, label)), None):
            raise ValueError(f"{path} has the row {short} but must have a file and a label")
        return [(inner_path(row[name], str(path)), row[label]) for row in rows if row]
