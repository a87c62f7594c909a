"""Oxford-IIIT Pets (Parkhi et al., CVPR 2012): photos of cat and dog breeds with trimaps; a class is a breed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from datamodules.images.mask_reading import UNKNOWN, label_map
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto
from lightning_fewshot.folders import data_files, same_name
from lightning_fewshot.images import read_mask

BORDER = 3  # of a trimap: not classified; 1 is the pet, 2 the background
DOWNLOAD = Download(
    folder="oxford-pets-3",
    needs=("images", "annotations/trimaps"),
    what="images.tar.gz and annotations.tar.gz",
    source="the Visual Geometry Group, https://www.robots.ox.ac.uk/~vgg/data/pets/,",
)


class OxfordPets(PhotoSegmentation):
    """One-shot segmentation of breeds; every fourth breed is a fold. The border of a trimap is void.

    The folder is ``oxford-pets-3``, or one with ``images`` and ``annotations``. ``min_pixels`` is not used: every photo
    shows its breed.
    """

    data_license = "CC BY-SA 4.0 (Oxford-IIIT Pet)"

    interleaved = True

    def all_names(self) -> Sequence[str]:
        """Return the breeds, sorted."""
        return self._names

    def read_photos(self) -> list[MaskedPhoto]:
        """List the photos that have a trimap."""
        folder = find_root(self.root, DOWNLOAD)
        masks = {same_name(m.stem): m for m in data_files(folder / "annotations/trimaps", (".png",), deep=False)}
        files = data_files(folder / "images", (".jpg", ".jpeg"), deep=False)
        pairs = [(f, masks.get(same_name(f.stem))) for f in files]
        return [MaskedPhoto(name=f.name, path=f, mask=m, classes=(_breed(f.stem),)) for f, m in pairs if m is not None]

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo: the pet is its breed."""
        table = {1: self.class_labels[photo.classes[0]], 2: 0, BORDER: UNKNOWN}
        return label_map(read_mask(photo.mask), table, photo.mask)

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.catalog.shown_classes)


def _breed(stem: str) -> str:
    """Return the breed in a file's name.

    >>> _breed("american_bulldog_12")
    'american bulldog'
    """
    return stem.rpartition("_")[0].replace("_", " ")
