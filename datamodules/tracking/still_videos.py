"""Pseudo-videos from boxed photos: an object that is shifted, resized and lit anew from frame to frame.

MetaRTT's "+COCO" row: "pseudo-videos with 6 frames via random resizing and shift of the original images" (section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.images import tiny_imagenet
from datamodules.images.boxed_photo import upright_boxes
from datamodules.images.coco import read_coco_photos
from datamodules.images.roots import find_root
from datamodules.images.yolo import read_yolo_photos
from datamodules.tracking.base import Target, TrackingData, as_splits, hold_out
from lightning_fewshot.images import read_image
from lightning_fewshot.sampling import episode_rng
from lightning_fewshot.tracking.crops import centres, crop, square_windows, to_crop
from lightning_fewshot.tracking.frames import Frames

MIN_SIDE = 16.0  # pixels of a photo: a smaller object is no target
DECODED = 64  # photos kept in memory
MOST_FRAMES = 100_000  # of a video, so that no two draw the same numbers


class Still(NamedTuple):
    """One object in one photo; ``size`` is the (width, height) that the box refers to, None: that of the photo."""

    path: str
    box: tuple[float, float, float, float]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class StillVideoSettings:
    """How a photo becomes a video.

    Args:
        n_frames: Frames of a pseudo-video; a clip of MLT needs seven.
        image_size: Side of a frame, in pixels.
        wander: Displacement of the object from the middle of the frame, at most, as a share of the frame's side.
        resize: Change of size, at most: 1.5 makes the object between 1 / 1.5 and 1.5 times as large.
        relight: Change of brightness and contrast, at most, as a share.
        target_size: Size of the object, as a share of the frame's side, before it is changed.
    """

    n_frames: int = 6
    image_size: int = 256
    wander: float = 0.3
    resize: float = 1.4
    relight: float = 0.2
    target_size: float = 0.22

    def __post_init__(self) -> None:
        if not 1 <= self.n_frames <= MOST_FRAMES:
            raise ValueError(f"videos.n_frames is {self.n_frames} but must be from 1 to {MOST_FRAMES}")
        if not 0 <= self.wander <= 0.5:
            raise ValueError(f"videos.wander is {self.wander} but must be in [0, 0.5]")
        if self.resize < 1:
            raise ValueError(f"videos.resize is {self.resize} but must be at least 1")
        if not 0 <= self.relight < 1:
            raise ValueError(f"videos.relight is {self.relight} but must be at least 0 and below 1")
        if not 0 < self.target_size <= 1:
            raise ValueError(f"videos.target_size is {self.target_size} but must be above 0 and at most 1")


class StillVideos(TrackingData):
    """Short videos made of one photo each; any number of frames, none of them stored.

    Frame t shows the photo through a square window that wanders, grows and shrinks around the object, with another
    light. Where the window leaves the photo, as it does with photos that one object fills, another photo lies behind,
    and moves too; a frame in one color would tell where the object is.

    Args:
        photos: "tiny_imagenet", "coco", or "yolo" (a folder in YOLO's layout, such as coco128).
        root: Folder that holds the data set's folder; None: FEWSHOT_DATA.
        videos: How a photo becomes a video.
        val_share: Share of the photos kept for validation.
        options: See TrackingData.
    """

    def __init__(
        self,
        photos: Literal["tiny_imagenet", "coco", "yolo"] = "tiny_imagenet",
        root: str | None = None,
        videos: StillVideoSettings = StillVideoSettings(),
        val_share: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.photos = photos
        self.root = root
        self.videos = videos
        self.val_share = val_share

    @cached_property
    def stills(self) -> dict[str, list[Still]]:
        """The objects of each split; no photo is in two splits."""
        stills = READERS[self.photos](self.root)
        _, val = hold_out([Path(p) for p in sorted({s.path for s in stills})], self.val_share)
        kept = {str(p) for p in val}
        return as_splits([s for s in stills if s.path not in kept], [s for s in stills if s.path in kept])

    def count(self, split: str) -> int:
        """Return the number of objects."""
        return len(self.stills[split])

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Make the pseudo-video of one object; it is the same one whenever it is asked for."""
        key, pool = (self.seed, split, video), self.stills[split]
        behind = pool[int(episode_rng(*key, "behind").integers(len(pool)))].path
        frames = StillFrames(pool[video], behind, key, self.videos)
        return Target(frames, frames.boxes())


class StillFrames(Frames):
    """The frames of a pseudo-video; frame t is a function of the photo, the key and t.

    Args:
        still: The object; it is in the middle of frame 0.
        behind: Path of the photo that is seen where the window leaves the first one.
        key: (seed, split, number of the video).
        settings: How the photo becomes a video.
    """

    def __init__(self, still: Still, behind: str, key: tuple[int, str, int], settings: StillVideoSettings) -> None:
        super().__init__(f"still_{key[1]}_{key[2]:05d}")
        self.still = still
        self.behind = behind
        self.key = key
        self.settings = settings

    def __len__(self) -> int:
        return self.settings.n_frames

    @cached_property
    def box(self) -> Tensor:
        """The object's box ``(4,)`` in the upright photo."""
        box = np.array([self.still.box], np.float32)
        if self.still.size is not None:
            height, width = _photo(self.still.path).shape[1:]
            box = upright_boxes(box, self.still.size, (width, height), self.still.path)
        return torch.from_numpy(box[0])

    def window(self, t: int) -> Tensor:
        """Return the window ``(4,)`` of the photo that frame ``t`` shows."""
        wander, rng = self.settings.wander, self._rng(t)
        box = self.box
        growth = float(np.exp(rng.uniform(-1, 1) * np.log(self.settings.resize)))
        side = (box[2:] - box[:2]).prod().sqrt() / self.settings.target_size * growth
        offset = torch.from_numpy(rng.uniform(-wander, wander, 2)).float() * side * (t > 0)
        return square_windows(centres(box) + offset, side)

    def boxes(self) -> Tensor:
        """Return the object's boxes ``(T, 4)``."""
        windows = torch.stack([self.window(t) for t in range(len(self))])
        return to_crop(self.box.expand(len(windows), 4), windows, self.settings.image_size)

    def frame(self, t: int) -> Tensor:
        """Cut and light frame ``t``."""
        photo, window, black = _photo(self.still.path), self.window(t)[None], torch.zeros(3)
        image = crop(photo, window, self.settings.image_size, black)[0]
        covered = crop(torch.ones_like(photo), window, self.settings.image_size, black)[0]
        image += (1 - covered) * self._ground(t)
        rng, relight = self._rng(t, "light"), self.settings.relight
        contrast, brightness = 1 + rng.uniform(-relight, relight, 2)
        mean = image.mean()
        lit = (image - mean) * contrast + mean * brightness
        return lit.round().clamp(0, 255).to(torch.uint8)

    def _ground(self, t: int) -> Tensor:
        """Cut a square of 70 to 100 % of the shorter side out of the photo behind."""
        photo, rng = _photo(self.behind), self._rng(t, "ground")
        height, width = photo.shape[1:]
        side = min(height, width) * rng.uniform(0.7, 1.0)
        corner = torch.from_numpy(rng.uniform(0, 1, 2) * [width - side, height - side]).float()
        return crop(photo, torch.cat((corner, corner + side))[None], self.settings.image_size)[0]

    def _rng(self, t: int, stream: str = "place") -> np.random.Generator:
        seed, split, video = self.key
        return episode_rng(seed, split, video * MOST_FRAMES + t, stream)


@lru_cache(DECODED)
def _photo(path: str) -> Tensor:
    return torch.from_numpy(read_image(path)).permute(2, 0, 1)


def _read_tiny_imagenet(root: str | None) -> list[Still]:
    folder = find_root(root, tiny_imagenet.DOWNLOAD)
    return _large([Still(str(path), box) for path, _, box in tiny_imagenet.read_rows(folder)])


def _read_coco(root: str | None) -> list[Still]:
    return _of_photos(read_coco_photos(root))


def _read_yolo(root: str | None) -> list[Still]:
    return _of_photos(read_yolo_photos(root))


def _of_photos(photos: list) -> list[Still]:
    return _large([Still(str(p.path), tuple(box), p.size) for p in photos for box in p.boxes.tolist()])


def _large(stills: list[Still]) -> list[Still]:
    kept = [s for s in stills if min(s.box[2] - s.box[0], s.box[3] - s.box[1]) >= MIN_SIDE]
    if not kept:
        raise ValueError(f"none of {len(stills)} objects has sides of {MIN_SIDE:g} pixels or more")
    return kept


READERS = {"tiny_imagenet": _read_tiny_imagenet, "coco": _read_coco, "yolo": _read_yolo}
