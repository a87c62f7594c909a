"""PASCAL-5i (Shaban et al., BMVC 2017, section 5): VOC 2012 and SBD with five of twenty classes kept for testing.

Masks come from VOC2012 and SBD in their own layouts, or, where there is a folder ``pascal5i``, from its
``SegmentationClassAug`` (one PNG a photo) with published lists of (photo, class) entries in ``splits/{trn,val}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from datamodules.images.mask_reading import UNKNOWN, areas_of, label_map
from datamodules.images.matlab import read_mat
from datamodules.images.roots import Download, find_root
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.masked_photo import MaskedPhoto
from datamodules.segmentation.settings import N_FOLDS
from lightning_fewshot.images import read_mask
from lightning_fewshot.text import inner_path, read_lines

# Table 1, top: fold i has the classes 5i + 1 to 5i + 5.
NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle"),
    *("bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person"),
    *("potted plant", "sheep", "sofa", "train", "tv/monitor"),
)
TABLE = {**{value: value for value in range(21)}, 255: UNKNOWN}
VOC = Download(
    folder="VOCdevkit",
    needs=("VOC2012/JPEGImages", "VOC2012/SegmentationClass", "VOC2012/ImageSets/Segmentation/train.txt"),
    what="VOCtrainval_11-May-2012.tar",
    source="the PASCAL VOC project, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/,",
)
SBD = Download(
    folder="benchmark_RELEASE",
    needs=("dataset/cls", "dataset/train.txt"),
    what="benchmark.tgz (SBD)",
    source="Hariharan et al., http://home.bharathh.info/pubs/codes/SBD/download.html,",
)
LISTED = Download(
    folder="pascal5i",
    needs=("SegmentationClassAug", "splits/trn/fold0.txt", "splits/val/fold0.txt"),
    what="the masks SegmentationClassAug and the lists splits/{trn,val}/fold{0..3}.txt",
    source="a project that publishes PASCAL-5i lists, such as HSNet's,",
)


class Pascal5i(PhotoSegmentation):
    """PASCAL-5i: train on SBD's and VOC's training photos, test on VOC 2012 val.

    The root holds ``VOCdevkit`` and ``benchmark_RELEASE``, or ``pascal5i`` and ``VOCdevkit``. With ``pascal5i`` its
    lists are used as they are, and ``min_pixels`` is not.
    """

    def all_names(self) -> Sequence[str]:
        """Return the twenty classes in VOC's order."""
        return NAMES

    def read_photos(self) -> list[MaskedPhoto]:
        """Read the lists; without published ones, all masks are read once, which takes a minute."""
        if self.listed is not None:
            return self._read_lists(self.listed)
        voc, sbd = find_root(self.root, VOC) / "VOC2012", find_root(self.root, SBD) / "dataset"
        val = set(_lines(voc / "ImageSets/Segmentation/val.txt"))
        train = set(_lines(voc / "ImageSets/Segmentation/train.txt")) | set(_lines(sbd / "train.txt"))
        files = {}
        for name in sorted(train | val):  # footnote 1: no training photo is in VOC's val
            voc_mask = voc / f"SegmentationClass/{name}.png"
            files[name] = voc_mask if voc_mask.exists() else sbd / f"cls/{name}.mat"
        areas = areas_of(list(files.values()), _read_labels)
        return [
            MaskedPhoto(
                name=name,
                path=self._photo(name),
                mask=file,
                classes=self.seen_names(area, NAMES),
                evaluation_only=name in val,
            )
            for (name, file), area in zip(files.items(), areas, strict=True)
        ]

    def read_mask(self, photo: MaskedPhoto) -> np.ndarray:
        """Return the labels of a photo."""
        return _read_labels(photo.mask)

    @cached_property
    def listed(self) -> Path | None:
        """The folder with published lists, if there is one."""
        try:
            return find_root(self.root, LISTED)
        except FileNotFoundError:
            return None

    def _read_lists(self, folder: Path) -> list[MaskedPhoto]:
        photos: dict[str, MaskedPhoto] = {}
        for part in ("trn", "val"):
            for fold in range(N_FOLDS):
                for name, label in read_entries(folder / f"splits/{part}/fold{fold}.txt"):
                    mask = folder / f"SegmentationClassAug/{name}.png"
                    photo = photos.get(name) or MaskedPhoto(
                        name=name, path=self._photo(name), mask=mask, classes=(), evaluation_only=part == "val"
                    )
                    photos[name] = photo._replace(classes=(*photo.classes, NAMES[label - 1]))
        return list(photos.values())

    def _photo(self, name: str) -> Path:
        return self._photo_folder / f"{name}.jpg"

    @cached_property
    def _photo_folder(self) -> Path:
        if self.listed is None:
            return find_root(self.root, VOC) / "VOC2012/JPEGImages"
        places = [
            self.listed / "JPEGImages",
            self.listed.parent / "VOCdevkit/VOC2012/JPEGImages",
            self.listed / "VOCdevkit/VOC2012/JPEGImages",
        ]
        return next((place for place in places if place.is_dir()), places[0])


def read_entries(path: Path) -> list[tuple[str, int]]:
    """Read a published list: lines ``2007_000032__01``, a photo and the number of a class it shows.

    Raises:
        ValueError: A line is of another kind.
    """
    entries = [line.rpartition("__") for line in _lines(path)]
    for name, _, label in entries:
        if not (name and label.isdecimal() and 1 <= int(label) <= len(NAMES)):
            raise ValueError(f"{path} has the line {name}__{label}, expected <photo>__<class from 01 to {len(NAMES)}>")
    return [(name, int(label)) for name, _, label in entries]


def _read_labels(path: Path) -> np.ndarray:
    if path.suffix != ".mat":
        return label_map(read_mask(path), TABLE, path)
    marked = read_mat(path, ["GTcls"])["GTcls"]  # SBD's own format
    values = marked.get("Segmentation") if isinstance(marked, dict) else None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"mask {path} has no GTcls.Segmentation: it is not one of SBD's")
    return label_map(values.astype(np.int64), TABLE, path)


def _lines(path: Path) -> list[str]:
    return [inner_path(line, f"{path} line {number}") for number, line in read_lines(path)]
