"""Oxford-IIIT Pets (Parkhi et al., CVPR 2012): photos of cat and dog breeds with trimaps; a class is a breed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from datamodules.images.mask_reading import UNKNOWN, label_map, read_values
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto

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
        files = [(f, folder / f"annotations/trimaps/{f.stem}.png") for f in sorted((folder / "images").glob("*.jpg"))]
        return [
            MaskedPhoto(name=f.name, path=f, mask=mask, classes=(_breed(f.stem),)) for f, mask in files if mask.exists()
        ]

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo: the pet is its breed."""
        table = {1: self.class_labels[photo.classes[0]], 2: 0, BORDER: UNKNOWN}
        return label_map(read_values(photo.mask), table, photo.mask)

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.catalog.shown_classes)


def _breed(stem: str) -> str:
    """Return the breed in a file's name.

    >>> _breed("american_bulldog_12")
    'american bulldog'
    """
    return stem.rpartition("_")[0].replace("_", " ")
