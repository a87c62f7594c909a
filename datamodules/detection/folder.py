"""One's own photos: a folder with images and one COCO json ``annotations.json``; unlabelled images are predicted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from datamodules.detection.base import PhotoDetection, rows_of
from datamodules.images.boxed_photo import Photo
from datamodules.images.coco import read_coco
from datamodules.images.own_folder import OwnFolder
from datamodules.images.roots import Download
from lightning_fewshot.episodes import Episode


class FolderDetection(OwnFolder, PhotoDetection):
    """A few labelled photos of one's own, and more to predict.

    ``predict`` uses every labelled photo as support, and predicts the images under ``query/`` and all others in the
    folder that have no box. ``test`` draws episodes from the labelled photos; ``fit`` trains on the classes that are
    not novel; by default all are.
    """

    download = Download(
        folder="my-photos",
        needs=("annotations.json",),
        what="nothing, but export the boxes of a few photos as one COCO json",
        source="your annotation tool (CVAT, Label Studio, labelme, ...)",
    )
    nothing_labelled = "/annotations.json has no usable box"
    nothing_to_predict = "has no image without boxes: put the images to predict"

    def read_photos(self) -> list[Photo]:
        """Read the labelled photos."""
        listed = read_coco(self.folder / "annotations.json", self.folder)
        return [self._located(photo) for photo in listed if photo.classes]

    def image_files(self) -> Iterable[Path]:
        """Return all files."""
        return self.folder.rglob("*")

    def shots(self) -> Sequence[Photo]:
        """Return the labelled photos."""
        return list(self.catalog.photos.values())

    def predicted_episode(self, paths: Sequence[Path], index: int) -> Episode:
        """Return the episode that predicts some files."""
        classes, shots = self.all_classes, self.shots()
        support = self.examples(shots, [rows_of(photo, classes) for photo in shots], classes)
        asked = [
            Photo(name=self.name_of(path), path=path, boxes=np.zeros((0, 4), np.float32), classes=()) for path in paths
        ]
        query = self.examples(asked, [[]] * len(asked), classes)._replace(boxes=None, labels=None)
        return Episode(support=support, query=query, classes=classes, index=index, class_ids=tuple(range(len(classes))))

    def _located(self, photo: Photo) -> Photo:
        """Point to the image, which lies in the folder or in its ``images``."""
        for path in (self.folder / photo.name, self.folder / "images" / photo.name):
            if path.exists():
                return photo._replace(path=path)
        raise FileNotFoundError(
            f"annotations.json names {photo.name}, which is neither in {self.folder} nor in images/"
        )
