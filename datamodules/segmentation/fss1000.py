"""FSS-1000 (Li et al., CVPR 2020): 1000 classes of ten photos, one object each, with binary masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from datamodules.images.roots import Download, find_root
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto
from datamodules.segmentation.settings import MaskedImages
from lightning_fewshot.folders import data_files, data_folders, same_name
from lightning_fewshot.images import read_image, read_mask
from lightning_fewshot.text import read_lines

TEST_SHARE = 0.24  # of the classes, as the authors' 240 of 1000
TEST_LISTS = ("fss_test_set.txt", "test.txt")
DOWNLOAD = Download(
    folder="fewshot_data",
    needs=("*/1.jpg", "*/1.png"),
    what="fewshot_data.zip, and the authors' list of test classes as fss_test_set.txt",
    source="the FSS-1000 project, https://github.com/HKUSTCV/FSS-1000,",
)


class FSS1000(PhotoSegmentation):
    """One-shot segmentation on FSS-1000.

    Args:
        root: Folder that holds ``fewshot_data``, or that folder; None: FEWSHOT_DATA. Test classes are those listed in
            its ``fss_test_set.txt``; without such a file, 24 % of the classes drawn by ``seed``.
        images: How photos are scaled and augmented; they come with 224 pixels.
        options: See PhotoSegmentation. Folds and ``min_pixels`` are not used.
    """

    def __init__(self, root: str | None = None, images: MaskedImages = MaskedImages(size=224), **options) -> None:
        super().__init__(root, images=images, **options)

    def all_names(self) -> Sequence[str]:
        """Return all classes, sorted."""
        return self._names

    def fold_names(self, fold: int) -> Sequence[str]:
        """Return the authors' test classes, or as many drawn ones."""
        for name in TEST_LISTS:
            if (path := self._folder / name).exists():
                return [line for _, line in read_lines(path)]
        count = max(1, round(TEST_SHARE * len(self._names)))
        return sorted(self.rng("classes", 1).choice(self._names, count, replace=False).tolist())

    def read_photos(self) -> list[MaskedPhoto]:
        """List all photos that have a mask."""
        listed = [f for folder in data_folders(self._folder) for f in data_files(folder, (".jpg", ".png"), deep=False)]
        masks = {same_name(str(f.with_suffix(""))): f for f in listed if f.suffix.lower() == ".png"}
        pairs = [(f, masks.get(same_name(str(f.with_suffix(""))))) for f in listed if f.suffix.lower() == ".jpg"]
        return [
            MaskedPhoto(name=f"{f.parent.name}/{f.name}", path=f, mask=mask, classes=(f.parent.name,))
            for f, mask in pairs
            if mask is not None
        ]

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo: masks are black and white, as color or grey files."""
        try:
            bright = read_mask(photo.mask) > 127
        except ValueError:
            bright = read_image(photo.mask).max(axis=2) > 127  # some masks are slightly colored
        return bright.astype(np.int16) * np.int16(self.class_labels[photo.classes[0]])

    @cached_property
    def _folder(self) -> Path:
        return find_root(self.root, DOWNLOAD)

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.catalog.shown_classes)
