"""Any folder of class folders, with train/, val/ and test/ above them or without; what lies in query/ is predicted."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.classification.base import CLOSED_BATCH, ClassImages
from datamodules.classification.catalog import PARTS, ClassImage, class_folders
from datamodules.classification.store import middle_square
from datamodules.images.own_folder import images_at
from datamodules.images.roots import Download, find_root
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.images import read_image

DATA = Download("image_folder", ("*/*",), "images, those of each class in a folder of its name", "wherever they are")
QUERY = "query"  # the folder that is no class


class ImageFolder(ClassImages):
    """Images in class folders; a class in nested folders is called by its path.

    Where the folder holds ``train/``, ``val/`` or ``test/`` alone, these are the parts of a closed set. ``predict``
    takes every image of a class as support, and names the images in ``query/``, which is never a class.

    Args:
        root: The folder; None takes ``$FEWSHOT_DATA/image_folder``.
        query: What is predicted in place of ``query/``: a file, a folder, or a pattern such as ``"holiday/*.jpg"``, or
            a list of these.
        options: See :class:`ClassImages`.
    """

    def __init__(self, root: str | None = None, query: list[str] | str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root
        self.query = [query] if isinstance(query, str) else query

    @cached_property
    def folder(self) -> Path:
        """The folder."""
        return find_root(self.root, DATA)

    @cached_property
    def unlabelled(self) -> tuple[Path, ...]:
        """The images to predict, sorted.

        Raises:
            FileNotFoundError: ``query`` names something that is not there, or there are none.
        """
        if self.query is not None:
            return tuple(sorted({path for text in self.query for path in images_at(text)}))
        if not (self.folder / QUERY).is_dir():
            raise FileNotFoundError(f"{self.folder} has no folder {QUERY}/: put the images to predict there")
        return tuple(sorted(images_at(str(self.folder / QUERY))))

    def list_images(self) -> list[ClassImage]:
        """List the images below the class folders."""
        folders = [p for p in sorted(self.folder.iterdir()) if p.is_dir() and not p.name.startswith((".", "__"))]
        parts = [path for path in folders if path.name != QUERY]
        if parts and {path.name for path in parts} <= set(PARTS):
            return [image for part in parts for image in class_folders(part, part.name)]
        return [image for image in class_folders(self.folder) if image.label.split("/")[0] != QUERY]

    def setup(self, stage: str | None = None) -> None:
        """Decode the images; to predict, count the episodes, else refuse splits that cannot make one."""
        if stage != "predict":
            super().setup(stage)
        elif not self.listed[0]:
            raise FileNotFoundError(f"{self.folder} has no image of a class: there is nothing to adapt to")
        else:
            self.counts["predict"] = -(-len(self.unlabelled) // CLOSED_BATCH)

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val", "test" or "predict"."""
        if split != "predict":
            return super().episode(split, index)
        images, _ = self.listed
        classes = tuple(sorted({image.label for image in images}))
        support = self._examples(list(range(len(images))), [classes.index(image.label) for image in images])
        paths = self._paths(index)
        query = Examples(torch.stack([self._square(path) for path in paths]), names=tuple(map(self._name, paths)))
        return Episode(support, query, classes, index, tuple(range(len(classes))))

    def to_draw(self, episode: Episode) -> Examples:
        """Return the predicted images in their own size."""
        images = [torch.from_numpy(read_image(path)).permute(2, 0, 1) for path in self._paths(episode.index)]
        return episode.query._replace(images=images)

    def _paths(self, index: int) -> tuple[Path, ...]:
        return self.unlabelled[index * CLOSED_BATCH : (index + 1) * CLOSED_BATCH]

    def _square(self, path: Path) -> Tensor:
        """Return an image as the network sees it."""
        square = torch.from_numpy(middle_square(read_image(path), self.images.stored_size))
        return self._shown(square.permute(2, 0, 1), None)

    def _name(self, path: Path) -> str:
        return (path.relative_to(self.folder) if self.folder in path.parents else path).as_posix()
