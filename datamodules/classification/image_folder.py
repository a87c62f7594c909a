"""Any folder of class folders, with train/, val/ and test/ above them or without."""

from __future__ import annotations

from typing import Any

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import PARTS, ClassImage, class_folders
from datamodules.images.roots import Download, find_root

DATA = Download("image_folder", ("*/*",), "images, those of each class in a folder of its name", "wherever they are")


class ImageFolder(ClassImages):
    """Images in class folders; a class in nested folders is called by its path.

    Where the folder holds ``train/``, ``val/`` or ``test/`` alone, these are the parts of a closed set.

    Args:
        root: The folder; None takes ``$FEWSHOT_DATA/image_folder``.
        options: See :class:`ClassImages`.
    """

    def __init__(self, root: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    def list_images(self) -> list[ClassImage]:
        """List the images below the class folders."""
        folder = find_root(self.root, DATA)
        parts = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "__"))]
        if parts and {path.name for path in parts} <= set(PARTS):
            return [image for part in parts for image in class_folders(part, part.name)]
        return class_folders(folder)
