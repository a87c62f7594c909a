"""Test sets of tracking: OTB, TempleColor-128, UAV123, VOT. To train on, they borrow another set's videos."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from datamodules.images.roots import ENVIRONMENT_NAME
from datamodules.tracking.base import Target, TrackingData
from datamodules.tracking.drawn_videos import DrawnVideos
from datamodules.tracking.got10k import GOT10k
from datamodules.tracking.imagenet_vid import ImageNetVID
from datamodules.tracking.mixed_videos import MixedVideos
from lightning_fewshot.boxes import xywh_to_xyxy
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.tracking.benchmarks import Sequence, read_benchmark
from lightning_fewshot.tracking.files import polygons_to_xywh

Training = Literal["drawn", "got10k", "imagenet_vid", "videos", "mixed"]
OWN = ("test", "predict")  # splits of the test set itself; the others are borrowed


class TrackingBenchmark(TrackingData):
    """A test set, and another set's videos to train and validate on.

    Args:
        root: Folder that holds the set's folder, or that folder; None: FEWSHOT_DATA.
        sequences: Names of the sequences to test on; None: all.
        train_on: Videos for training and validation: "drawn" (embedded), "got10k", "imagenet_vid", "videos", a folder
            ``videos`` in GOT-10k's layout, or "mixed": drawn, those, and pseudo-videos of Tiny-ImageNet.
        train_root: Folder of those; None: FEWSHOT_DATA.
        options: See TrackingData.
    """

    benchmark: ClassVar[str]

    def __init__(
        self,
        root: str | None = None,
        sequences: list[str] | None = None,
        train_on: Training = "drawn",
        train_root: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root, self.wanted = root, sequences
        self.train_on, self.train_root = train_on, train_root

    @cached_property
    def sequences(self) -> list[Sequence]:
        """The sequences to test on, with their truth."""
        root = self.root or os.environ.get(ENVIRONMENT_NAME)
        if not root:
            raise FileNotFoundError(
                f"no root is given for {self.benchmark}: set {ENVIRONMENT_NAME} or --data.root to the folder around it"
            )
        found = read_benchmark(self.benchmark, root)
        names = [s.name for s in found]
        for name in self.wanted or ():
            if name not in names:
                raise ValueError(f"sequences has {name!r} but {self.benchmark} has {', '.join(names)}")
        return [s for s in found if self.wanted is None or s.name in self.wanted]

    @cached_property
    def training(self) -> TrackingData:
        """Where training and validation videos come from."""
        if self.train_on == "drawn":
            return DrawnVideos(seed=self.seed)
        if self.train_on == "mixed":
            return MixedVideos(
                root=self.train_root, seed=self.seed, episodes=EpisodeCounts(val=self._at_most["val"], test=None)
            )
        if self.train_on == "imagenet_vid":
            return ImageNetVID(self.train_root, seed=self.seed)
        return GOT10k(self.train_root, "videos" if self.train_on == "videos" else "GOT-10k", seed=self.seed)

    def count(self, split: str) -> int:
        """Return the number of videos."""
        return len(self.sequences) if split in OWN else self.training.count(split)

    def choose(self, rng: np.random.Generator) -> int:
        """Draw a training video as the borrowed set does."""
        return self.training.choose(rng)

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a sequence of the test set, or a training video."""
        if split not in OWN:
            return self.training.target(split, video, rng)
        sequence = self.sequences[video]
        return Target(sequence.frames(), sequence.boxes())

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        more = {"benchmark": self.benchmark} if split == "test" else {}
        return {**super().protocol(split), **more, "train_on": self.train_on}


class OTB(TrackingBenchmark):
    """OTB-100 (Wu et al. 2015): ``OTB/<name>/img``, ``groundtruth_rect.txt``."""

    benchmark = "otb"


class TempleColor128(TrackingBenchmark):
    """TempleColor-128 (Liang et al. 2015): ``Temple-color-128/<name>/<name>_gt.txt``."""

    benchmark = "templecolor"


class UAV123(TrackingBenchmark):
    """UAV123 (Mueller et al. 2016): ``UAV123/anno/UAV123/<name>.txt``, ``UAV123/data_seq/UAV123``."""

    benchmark = "uav123"


class VOT(TrackingBenchmark):
    """VOT (Kristan et al.): ``VOT/list.txt``, ``VOT/<name>/color``, ``groundtruth.txt`` with polygons.

    Args:
        evaluation: "supervised": put back after a failure; accuracy, failures, robustness, EAO. "one-pass": success and
            precision on the polygons' bounding boxes.
        root: Folder that holds the set's folder, or that folder; None: FEWSHOT_DATA.
        sequences: Names of the sequences to test on; None: all.
        train_on: Videos for training and validation, see TrackingBenchmark.
        train_root: Folder of those; None: FEWSHOT_DATA.
        options: See TrackingData.
    """

    benchmark = "vot"

    def __init__(
        self,
        evaluation: Literal["supervised", "one-pass"] = "supervised",
        root: str | None = None,
        sequences: list[str] | None = None,
        train_on: Training = "drawn",
        train_root: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(root, sequences, train_on, train_root, **options)
        self.evaluation = evaluation

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a sequence; polygons become boxes where they are not asked for."""
        target = super().target(split, video, rng)
        if split in OWN and self.evaluation == "one-pass" and target.boxes().shape[1] == 8:
            return Target(target.frames, xywh_to_xyxy(polygons_to_xywh(target.boxes())))
        return target

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        return {**super().protocol(split), "evaluation": self.evaluation if split == "test" else "one-pass"}
