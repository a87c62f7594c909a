"""Test sets of tracking: OTB, TempleColor-128, UAV123, VOT, LaSOT, TrackingNet, NfS.

A tracker's data takes one of them as its ``test``.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from datamodules.images.roots import ENVIRONMENT_NAME
from datamodules.tracking.base import TEST_SPLITS, Target, TrackingData
from lightning_fewshot.boxes import xywh_to_xyxy
from lightning_fewshot.tracking.benchmarks import read_benchmark
from lightning_fewshot.tracking.box_files import polygons_to_xywh
from lightning_fewshot.tracking.sequence import Sequence

# TB-50 of Wu et al. 2015; both targets of Skating2 are among the fifty.
_OTB50 = """
Basketball Biker Bird1 BlurBody BlurCar2 BlurFace BlurOwl Bolt Box Car1 Car4 CarDark CarScale ClifBar Couple Crowds
David Deer Diving DragonBaby Dudek Football Freeman4 Girl Human3 Human4 Human6 Human9 Ironman Jump Jumping Liquor
Matrix MotorRolling Panda RedTeam Shaking Singer2 Skating1 Skating2.1 Skating2.2 Skiing Soccer Surfer Sylvester
Tiger2 Trellis Walking Walking2 Woman
"""
OTB50_NAMES = frozenset(_OTB50.split())


class TrackingBenchmark(TrackingData):
    """A test set: it has no videos to train or validate on.

    Args:
        root: Folder that holds the set's folder, or that folder; None: FEWSHOT_DATA.
        sequences: Names of the sequences to test on; None: all.
        options: See TrackingData.
    """

    benchmark: ClassVar[str]

    def __init__(self, root: str | None = None, sequences: list[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root
        self.names = sequences

    @cached_property
    def videos(self) -> list[Sequence]:
        """The sequences to test on, with their truth."""
        root = self.root or os.environ.get(ENVIRONMENT_NAME)
        if not root:
            raise FileNotFoundError(
                f"no root is given for {self.benchmark}: set {ENVIRONMENT_NAME} or --data.root to the folder around it"
            )
        published = self.published(root)
        known = [sequence.name for sequence in published]
        for name in self.names or ():
            if name not in known:
                raise ValueError(f"sequences has {name!r} but {self.benchmark} has {', '.join(known)}")
        return [sequence for sequence in published if self.names is None or sequence.name in self.names]

    def published(self, root: str) -> list[Sequence]:
        """Read all sequences of the set."""
        return read_benchmark(self.benchmark, root)

    def count(self, split: str) -> int:
        """Return the number of sequences."""
        return len(self.videos) if split in TEST_SPLITS else 0

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a sequence."""
        sequence = self.videos[video]
        return Target(sequence.frames(), sequence.boxes())

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        return {**super().protocol(split), "benchmark": self.benchmark}


class OTB(TrackingBenchmark):
    """OTB-100 (Wu et al. 2015): ``OTB/<name>/img``, ``groundtruth_rect.txt``."""

    benchmark = "otb"


class OTB50(OTB):
    """OTB-50 (Wu et al. 2015), the half of OTB-100 that its authors found the hardest; those of it that are there."""

    def published(self, root: str) -> list[Sequence]:
        """Read those of the fifty that are there."""
        sequences = super().published(root)
        chosen = [sequence for sequence in sequences if sequence.name in OTB50_NAMES]
        if not chosen:
            raise ValueError(f"{root} has no sequence of OTB-50, only {', '.join(s.name for s in sequences)}")
        return chosen


class TempleColor128(TrackingBenchmark):
    """TempleColor-128 (Liang et al. 2015): ``Temple-color-128/<name>/<name>_gt.txt``."""

    benchmark = "templecolor"


class UAV123(TrackingBenchmark):
    """UAV123 (Mueller et al. 2016): ``UAV123/anno/UAV123/<name>.txt``, ``UAV123/data_seq/UAV123``."""

    benchmark = "uav123"


class LaSOT(TrackingBenchmark):
    """LaSOT (Fan et al. 2019): ``LaSOT/<class>/<name>/img``, ``groundtruth.txt``; ``testing_set.txt`` chooses."""

    benchmark = "lasot"


class TrackingNet(TrackingBenchmark):
    """TrackingNet (Mueller et al. 2018), parts with a truth: ``TrackingNet/TRAIN_0/anno/<name>.txt``, ``frames``."""

    benchmark = "trackingnet"


class NfS(TrackingBenchmark):
    """NfS at 30 frames a second (Galoogahi et al. 2017): ``NfS/<name>/30/<name>.txt``, ``NfS/<name>/30/<name>``."""

    benchmark = "nfs"


class VOT(TrackingBenchmark):
    """VOT (Kristan et al.): ``VOT/list.txt``, ``VOT/<name>/color``, ``groundtruth.txt`` with polygons.

    Args:
        evaluation: "supervised": put back after a failure; accuracy, failures, robustness, EAO. "one-pass": success and
            precision on the polygons' bounding boxes.
        options: See TrackingBenchmark and TrackingData.
    """

    benchmark = "vot"

    def __init__(self, evaluation: Literal["supervised", "one-pass"] = "supervised", **options: Any) -> None:
        super().__init__(**options)
        if evaluation not in ("supervised", "one-pass"):
            raise ValueError(f"evaluation is {evaluation!r} but must be 'supervised' or 'one-pass'")
        self.evaluation = evaluation

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a sequence; polygons become boxes where they are not asked for."""
        target = super().target(split, video, rng)
        if self.evaluation == "one-pass" and target.boxes().shape[1] == 8:
            return Target(target.frames, xywh_to_xyxy(polygons_to_xywh(target.boxes())))
        return target
