"""ImageNet VID (ILSVRC2015 "object detection from video"), the training set of Learnet, MLT and MetaRTT."""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.images.roots import Download, find_root
from datamodules.tracking.base import Target, TrackingData, as_splits, hold_out
from lightning_fewshot.files import matching
from lightning_fewshot.sampling import episode_rng
from lightning_fewshot.text import read_text
from lightning_fewshot.tracking.frames import ImageFrames

DOWNLOAD = Download(
    "ILSVRC2015",
    ("Annotations/VID/train", "Data/VID/train"),
    "ILSVRC2015_VID.tar.gz",
    "https://image-net.org/challenges/LSVRC/2015/",
)
OBJECT = re.compile(r"<object>(.*?)</object>", re.DOTALL)
NUMBER = {name: re.compile(rf"<{name}>\s*(-?[\d.]+)\s*</{name}>") for name in ("xmin", "ymin", "xmax", "ymax")}
TRACK = re.compile(r"<trackid>\s*(\d+)\s*</trackid>")
OPENED = 512  # folders whose listing stays in memory
LOOKED_AT = 10  # frames looked at for one that shows an object


class ImageNetVID(TrackingData):
    """Videos as ``Data/VID/<part>/.../<video>/000000.JPEG`` with one XML a frame under ``Annotations/VID``.

    Only the XML files of the frames that are drawn are read. Objects are told apart by ``trackid``; classes are
    ignored, as in section 3.3 of Learnet.

    Args:
        root: Folder that holds ``ILSVRC2015``, or that folder; None: FEWSHOT_DATA.
        parts: Folder to train on: "train", "val" (on whose 555 videos MLT trains its meta-learner), or "both".
        val_share: Share of the training videos kept for validation; section 3.3 of Learnet keeps a tenth.
        options: See TrackingData.
    """

    def __init__(
        self,
        root: str | None = None,
        parts: Literal["train", "val", "both"] = "train",
        val_share: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.parts = parts
        self.val_share = val_share

    @cached_property
    def folder(self) -> Path:
        """The data set's folder."""
        return find_root(self.root, DOWNLOAD)

    @cached_property
    def videos(self) -> dict[str, list[str]]:
        """The videos of each split, as paths under ``VID``."""
        parts = ("train", "val") if self.parts == "both" else (self.parts,)
        listed = [Path(name) for part in parts for name in self._listed(part)]
        train, val = hold_out(listed, self.val_share)
        return as_splits([str(path) for path in train], [str(path) for path in val])

    def count(self, split: str) -> int:
        """Return the number of videos."""
        return len(self.videos[split])

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a video and choose one object of a random frame; without ``rng`` one that the first frames show."""
        name = self.videos[split][video]
        images, notes = list_video(self.folder, name)
        order = range(len(notes)) if rng is None else rng.integers(len(notes), size=LOOKED_AT).tolist()
        rng = rng if rng is not None else episode_rng(self.seed, split, video, "object")
        for t in order:
            if objects := read_objects(notes[t]):
                track = sorted(objects)[int(rng.integers(len(objects)))]
                start = t if split != "train" else 0  # a sequence starts where its object can be seen
                frames = ImageFrames(images[start:], f"{Path(name).name}.{track}")
                return VidTarget(frames, notes[start:], track)
        return Target(ImageFrames(images, Path(name).name), torch.full((len(images), 4), torch.nan))

    def _listed(self, part: str) -> list[str]:
        base = self.folder / "Annotations/VID" / part
        pattern = "*/*" if any(base.glob("ILSVRC2015_VID_train_*")) else "*"
        return [f"{part}/{path.relative_to(base)}" for path in matching(base, pattern) if path.is_dir()]


class VidTarget(Target):
    """One object, told by its track id; a box is read from its frame's XML when it is asked for."""

    def __init__(self, frames: ImageFrames, notes: list[Path], track: int) -> None:
        self.frames = frames
        self.notes = notes
        self.track = track

    def __len__(self) -> int:
        return len(self.notes)

    def box(self, t: int) -> Tensor:
        """Read the box ``(4,)`` of frame ``t``; NaN where the object is not annotated."""
        return torch.tensor(read_objects(self.notes[t]).get(self.track, (torch.nan,) * 4))

    def boxes(self) -> Tensor:
        """Read all boxes."""
        return torch.stack([self.box(t) for t in range(len(self))])


@lru_cache(OPENED)
def list_video(folder: Path, name: str) -> tuple[list[Path], list[Path]]:
    """List the images and the XML files of a video.

    Raises:
        ValueError: Their numbers differ; or there is none.
    """
    notes = matching(folder / "Annotations/VID" / name, "*.xml")
    images = matching(folder / "Data/VID" / name, "*.JPEG")
    if not notes or [p.stem for p in notes] != [p.stem for p in images]:
        raise ValueError(f"video {name} has {len(images)} images and {len(notes)} annotations")
    return images, notes


@lru_cache(4096)
def read_objects(path: Path) -> dict[int, tuple[float, float, float, float]]:
    """Read the boxes of one XML file by track id: ``(x1, y1, x2, y2)``, the last pixel inside.

    Raises:
        ValueError: The file is truncated, or no text.
    """
    text = read_text(path)
    if "</annotation>" not in text:
        raise ValueError(f"annotation {path} is truncated")
    boxes = {}
    for part in OBJECT.findall(text):
        track = TRACK.search(part)
        numbers = [NUMBER[name].search(part) for name in ("xmin", "ymin", "xmax", "ymax")]
        if track is None or any(n is None for n in numbers):
            raise ValueError(f"annotation {path} has an object without trackid or box")
        x1, y1, x2, y2 = (float(n[1]) for n in numbers)
        if x1 < x2 and y1 < y2:
            boxes[int(track[1])] = (x1, y1, x2 + 1, y2 + 1)
    return boxes
