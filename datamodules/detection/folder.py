"""One's own photos: a folder with images and one COCO json ``annotations.json``; unlabelled images are predicted."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.detection.base import Photo, PhotoDetection
from datamodules.detection.coco import read_coco
from datamodules.images.roots import Download, find_root
from lightning_fewshot.episodes import Episode

DOWNLOAD = Download(
    "my-photos",
    ("annotations.json",),
    "nothing, but export the boxes of a few photos as one COCO json",
    "your annotation tool (CVAT, Label Studio, labelme, ...)",
)
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


class FolderDetection(PhotoDetection):
    """A few labelled photos of one's own, and more to predict.

    ``predict`` uses every labelled photo as support, and predicts the images under ``query/`` and all others in the
    folder that have no box. ``test`` draws episodes from the labelled photos; ``fit`` trains on the classes that are
    not ``novel_classes``.

    Args:
        root: The folder (or the one that holds ``my-photos``); None: FEWSHOT_DATA.
        novel_classes: Classes kept for testing; the default is all of them, which leaves none to train on.
        chunk: Images of one predicted episode.
        options: See PhotoDetection.
    """

    def __init__(
        self, root: str | None = None, novel_classes: list[str] | None = None, chunk: int = 8, **options
    ) -> None:
        super().__init__(**options)
        if chunk < 1:
            raise ValueError(f"chunk is {chunk} but must be at least 1")
        self.root, self.novel_classes, self.chunk = root, novel_classes, chunk

    def setup(self, stage: str) -> None:
        """Read the annotations; count the episodes to predict."""
        super().setup(stage)
        if stage == "predict":
            if not self.photos:
                raise ValueError(f"{self.folder}/annotations.json has no usable box: there is nothing to adapt to")
            if not self.unlabelled:
                raise ValueError(f"{self.folder} has no image without boxes: put the images to predict into query/")
            self.counts["predict"] = -(-len(self.unlabelled) // self.chunk)

    def novel_names(self) -> tuple[str, ...]:
        """Return the classes kept for testing."""
        return self._all_classes if self.novel_classes is None else self.check_named(self.novel_classes)

    def read_photos(self) -> list[Photo]:
        """Read the labelled photos."""
        return [self._found(photo) for photo in self._listed if photo.classes]

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        more = {"classes": len(self._all_classes), "shots": len(self.photos)} if split == "predict" else {}
        return {**super().protocol(split), **more}

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val", "test" or "predict"."""
        if split != "predict":
            return super().episode(split, index)
        classes = self._all_classes
        shots = list(self.photos.values())
        support = self._examples(shots, [classes] * len(shots), classes)
        paths = self.unlabelled[index * self.chunk : (index + 1) * self.chunk]
        asked = [Photo(self._name(p), p, np.zeros((0, 4), np.float32), ()) for p in paths]
        query = self._examples(asked, [()] * len(asked), classes)._replace(boxes=None, labels=None)
        return Episode(support, query, classes, index, tuple(range(len(classes))))

    @cached_property
    def folder(self) -> Path:
        """The folder."""
        return find_root(self.root, DOWNLOAD)

    @cached_property
    def unlabelled(self) -> tuple[Path, ...]:
        """The images to predict, sorted."""
        labelled = {photo.path for photo in self.photos.values()}
        images = (p for p in self.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        return tuple(sorted(p for p in images if p not in labelled))

    @cached_property
    def _listed(self) -> list[Photo]:
        return read_coco(self.folder / "annotations.json", self.folder)

    @cached_property
    def _all_classes(self) -> tuple[str, ...]:
        return tuple(sorted(self.shown_classes))

    def _found(self, photo: Photo) -> Photo:
        """Point to the image, which lies in the folder or in its ``images``."""
        for path in (self.folder / photo.name, self.folder / "images" / photo.name):
            if path.exists():
                return photo._replace(path=path)
        raise FileNotFoundError(
            f"annotations.json names {photo.name}, which is neither in {self.folder} nor in images/"
        )

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _advice(self) -> str:
        return "set novel_classes to the classes kept for testing, so that others are left to train on"
