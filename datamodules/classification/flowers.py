"""Oxford Flowers-102 (Nilsback and Zisserman, 2008): the lists of the official three parts."""

from __future__ import annotations

from typing import Any

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import PARTS, ClassImage
from datamodules.images.roots import Download, find_root

DATA = Download(
    "flowers-102",
    ("jpg", "imagelabels.mat", "setid.mat"),
    "102flowers.tgz, imagelabels.mat and setid.mat",
    "its authors (https://www.robots.ox.ac.uk/~vgg/data/flowers/102)",
)


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
        from scipy.io import loadmat

        folder = find_root(self.root, DATA)
        labels = loadmat(str(folder / "imagelabels.mat"))["labels"].ravel()
        numbers = loadmat(str(folder / "setid.mat"))
        keys = dict(zip(PARTS, ("trnid", "valid", "tstid"), strict=True))
        return [
            ClassImage(f"image_{i:05d}.jpg", f"{labels[i - 1]:03d}", folder / f"jpg/image_{i:05d}.jpg", part)
            for part, key in keys.items()
            for i in numbers[key].ravel().tolist()
        ]
