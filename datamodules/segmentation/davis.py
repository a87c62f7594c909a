"""DAVIS-2016 (Perazzi et al., CVPR 2016): one-shot video segmentation in the benchmark's layout."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from datamodules.images.davis import read_sequences
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.masked_photo import MaskedPhoto
from datamodules.segmentation.video import VideoSegmentation
from lightning_fewshot.folders import data_files
from lightning_fewshot.images import read_mask

DOWNLOAD = Download(
    folder="davis",
    needs=("JPEGImages/480p", "Annotations/480p", "ImageSets/480p/val.txt"),
    what="DAVIS-2016 (480p)",
    source="its authors, https://davischallenge.org/davis2016/code.html,",
)


class DAVIS(VideoSegmentation):
    """One-shot video segmentation on DAVIS-2016: test on the sequences of val.txt, train on those of train.txt.

    To validate in training, keep some of these: ``splits: {val_classes: 5}``.
    """

    def all_names(self) -> Sequence[str]:
        """Return all sequences that are there: the classes."""
        return [*self._listed["train"], *self._listed["val"]]

    def benchmark_names(self) -> Sequence[str]:
        """Return the sequences kept for testing."""
        return self._listed["val"]

    def read_photos(self) -> list[MaskedPhoto]:
        """List the frames of all sequences, in order."""
        photos, folder = [], find_root(self.root, DOWNLOAD)
        for sequence in self.all_names():
            for mask in data_files(folder / "Annotations/480p" / sequence, (".png",), deep=False):
                frame = folder / "JPEGImages/480p" / sequence / f"{mask.stem}.jpg"
                photos.append(MaskedPhoto(name=f"{sequence}/{frame.name}", path=frame, mask=mask, classes=(sequence,)))
        return photos

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a frame: its object is its sequence."""
        return np.where(read_mask(photo.mask) > 0, self.class_labels[photo.classes[0]], 0).astype(np.int16)

    @cached_property
    def _listed(self) -> dict[str, list[str]]:
        folder = find_root(self.root, DOWNLOAD) / "ImageSets/480p"
        return {part: read_sequences(folder / f"{part}.txt") for part in ("train", "val")}
