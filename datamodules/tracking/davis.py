"""DAVIS-2016 (Perazzi et al. 2016) as a tracking set, by boxes around its masks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.images.davis import read_sequences
from datamodules.images.roots import Download, find_root
from datamodules.tracking.base import Target, TrackingData, as_splits, hold_out
from lightning_fewshot.tracking.box_files import read_boxes
from lightning_fewshot.tracking.sequence import Sequence

NEEDS = ("ImageSets/480p/val.txt", "Boxes")
DOWNLOAD = Download("davis", NEEDS, "DAVIS-2016 and boxes of its masks", "https://davischallenge.org")


class DAVISVideos(TrackingData):
    """``JPEGImages/480p/<name>/00000.jpg``, ``Boxes/<name>/groundtruth.txt`` (x, y, w, h), ``ImageSets/480p``.

    Args:
        root: Folder that holds ``davis``, or that folder; None: FEWSHOT_DATA.
        val_share: Share of the sequences of ``val.txt`` to validate and test on: 1 is the benchmark; below 1 the
            others are trained on, beside those of ``train.txt`` where there is one.
        options: See TrackingData.
    """

    def __init__(self, root: str | None = None, val_share: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.root = root
        self.val_share = val_share

    @cached_property
    def folder(self) -> Path:
        """The data set's folder."""
        return find_root(self.root, DOWNLOAD)

    @cached_property
    def videos(self) -> dict[str, list[Path]]:
        """The image folder of every sequence of each split."""
        train, val = hold_out(self._listed("val"), self.val_share)
        return as_splits(self._listed("train") + train, val)

    def count(self, split: str) -> int:
        """Return the number of sequences."""
        return len(self.videos[split])

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a sequence; it has one object."""
        images = self.videos[split][video]
        truth = read_boxes(self.folder / "Boxes" / images.name / "groundtruth.txt")
        sequence = Sequence(images.name, images, truth)
        return Target(sequence.frames(), sequence.boxes())

    def _listed(self, part: str) -> list[Path]:
        names = read_sequences(self.folder / f"ImageSets/480p/{part}.txt")
        return [self.folder / "JPEGImages/480p" / name for name in names]
