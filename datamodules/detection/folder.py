"""One's own photos: a folder with images and one COCO json ``annotations.json``; unlabelled images are predicted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from datamodules.detection.base import PhotoDetection, rows_of
from datamodules.images.boxed_photo import Photo
from datamodules.images.coco import read_coco
from datamodules.images.own_folder import CHUNK, OwnFolder
from datamodules.images.roots import Download
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.folders import IMAGE_SUFFIXES, data_files, find_file
from lightning_fewshot.images import read_image


class FolderDetection(OwnFolder, PhotoDetection):
    """A few labelled photos of one's own, and more to predict.

    ``predict`` uses every labelled photo as support, and predicts the images under ``query/`` and all others in the
    folder that have no box. ``test`` draws episodes from the labelled photos; ``fit`` trains on the classes that are
    not novel; by default all are.
    """

    download = Download(
        folder="my-photos",
        needs=("annotations.json",),
        what="the boxes of a few photos as one COCO json",
        source="your annotation tool (CVAT, Label Studio, labelme, ...)",
        verb="Export",
    )
    nothing_labelled = "/annotations.json has no usable box"
    nothing_to_predict = "has no image without boxes: put the images to predict"

    def read_photos(self) -> list[Photo]:
        """Read the photos with annotations, also those of which none can be used: they are not to be predicted."""
        listed = read_coco(self.folder / "annotations.json", self.folder, self._located)
        return [photo for photo in listed if photo.classes or photo.ignored.classes or photo.n_skipped]

    def image_files(self) -> Iterable[Path]:
        """Return all images."""
        return data_files(self.folder, IMAGE_SUFFIXES)

    def shots(self) -> Sequence[Photo]:
        """Return the labelled photos."""
        return [photo for photo in self.catalog.photos.values() if photo.classes]

    def predicted_episode(self, paths: Sequence[Path], index: int) -> Episode:
        """Return the episode that predicts some files."""
        classes, shots = self.all_classes, self.shots()
        support = self.examples(shots, [rows_of(photo, classes) for photo in shots], classes)
        asked = [
            Photo(name=self.name_of(path), path=path, boxes=np.zeros((0, 4), np.float32), classes=()) for path in paths
        ]
        query = self.examples(asked, [[]] * len(asked), classes)._replace(boxes=None, labels=None)
        return Episode(support=support, query=query, classes=classes, index=index, class_ids=tuple(range(len(classes))))

    def to_draw(self, episode: Episode) -> Examples:
        """Return the predicted photos in their own size, to which boxes are scaled back."""
        paths = self.unlabelled[episode.index * CHUNK : (episode.index + 1) * CHUNK]
        return episode.query._replace(images=[torch.from_numpy(read_image(p)).permute(2, 0, 1) for p in paths])

    def _located(self, name: str) -> Path:
        """Return the file of an image, which lies in the folder or in its ``images``."""
        for folder in (self.folder, self.folder / "images"):
            if (path := find_file(folder, name)) is not None:
                return path
        raise FileNotFoundError(f"annotations.json names {name}, which is neither in {self.folder} nor in images/")
