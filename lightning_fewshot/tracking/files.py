"""One result file a sequence, in the layout that the got10k toolkit writes for OTB.

``<folder>/<sequence>.txt`` has one line ``x,y,w,h`` a frame, in the coordinates of the benchmark's own files;
``<folder>/times/<sequence>_time.txt`` the tracker's seconds of each frame. Beside them
stand ``_more.txt`` (score, seconds of waiting for the frame, score of the true box, found or not; see
:class:`~lightning_fewshot.tracking.loop.Step`) and ``_made_by.txt`` (whose result this is, and of what).
"""

from __future__ import annotations

import hashlib
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_fewshot.boxes import xywh_to_xyxy, xyxy_to_xywh
from lightning_fewshot.episodes import Episode
from lightning_fewshot.files import write_atomically
from lightning_fewshot.tracking.box_files import read_boxes, write_boxes
from lightning_fewshot.tracking.frames import Frames, FramesPart, ImageFrames
from lightning_fewshot.tracking.loop import Track
from lightning_fewshot.tracking.videos import VideoFrames

PLAIN = (bool, int, float, str, tuple, list, dict, type(None))
LOOKED_AT = 8  # frames that tell a video in memory, or one that is drawn, from another


def fingerprint(module: nn.Module, tracker: Any, seed: int | None = None) -> str:
    """Return a hash of what tracks: the weights, the tracker's own settings and the seed.

    Args:
        module: Whose weights they are.
        tracker: Its public attributes that are plain data or settings groups are its settings.
        seed: Of the run.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + _bytes(value))
    public = {name: value for name, value in vars(tracker).items() if not name.startswith("_") and name != "training"}
    settings = {name: value for name, value in public.items() if isinstance(value, PLAIN) or is_dataclass(value)}
    digest.update(repr((type(tracker).__name__, sorted(settings.items()), seed)).encode())
    return digest.hexdigest()


def sequence_fingerprint(episode: Episode) -> str:
    """Return a hash of what is tracked: the protocol, the images, the first box and the truth."""
    frames, truth = episode.query.images, episode.query.boxes or []
    digest = hashlib.sha256(f"{episode.protocol} {len(frames)} {frames.origin:g}".encode())
    for boxes in (*episode.support.boxes, *truth):
        digest.update(str(tuple(boxes.shape)).encode() + _bytes(boxes))
    digest.update(images_fingerprint(frames).encode())
    return digest.hexdigest()


def images_fingerprint(frames: Frames) -> str:
    """Return a hash that changes with the images: of files their name, size and time of change, else some frames."""
    if isinstance(frames, FramesPart):
        described = (list(frames.numbers), images_fingerprint(frames.whole))
    elif isinstance(frames, ImageFrames):
        described = [_stamp(path) for path in frames.paths]
    elif isinstance(frames, VideoFrames):
        described = _stamp(frames.path)
    else:
        times = np.unique(np.linspace(0, len(frames) - 1, LOOKED_AT).round().astype(int)).tolist()
        described = [hashlib.sha256(_bytes(frames[t])).hexdigest() for t in times]
    return hashlib.sha256(repr(described).encode()).hexdigest()


class TrackFiles:
    """Result files of one tracker, that an evaluation resumes from.

    Args:
        folder: Where they stand.
        made_by: Fingerprints of the tracker and of what is tracked; files of others are replaced, never taken. None: of
            anybody.
    """

    def __init__(self, folder: str | Path, made_by: str | None = None) -> None:
        self.folder = Path(folder)
        self.made_by = made_by

    def read(self, frames: Frames) -> Track | None:
        """Return what is known about a sequence; None where it must be tracked (again)."""
        if not self.signed(frames.name):
            return None
        try:
            boxes = read_boxes(self.folder / f"{frames.name}.txt")
            seconds = np.loadtxt(self.times(frames.name, "time"), ndmin=1)
            more = np.loadtxt(self.times(frames.name, "more"), delimiter=",", ndmin=2)
        except (OSError, ValueError):  # damaged since
            return None
        if not len(boxes) == len(seconds) == len(more) or more.shape[1] not in (2, 4):
            return None
        boxes[:, :2] -= frames.origin
        times = torch.from_numpy(np.stack([seconds, more[:, 1]]))
        scores, _, *asked = torch.from_numpy(more).float().T  # earlier versions recorded nothing else
        return Track(xywh_to_xyxy(boxes).float(), scores, times[0], times[1], *asked)

    def write(self, frames: Frames, track: Track) -> None:
        """Write one sequence; its signature, the last to be written, makes it valid."""
        boxes_xywh = xyxy_to_xywh(track.boxes.double())
        boxes_xywh[:, :2] += frames.origin
        write_boxes(self.folder / f"{frames.name}.txt", boxes_xywh)
        write_atomically(self.times(frames.name, "time"), "".join(f"{s:.8f}\n" for s in track.seconds.tolist()))
        is_asked = track.truth_scores is not None and track.found is not None
        asked = (track.truth_scores.tolist(), track.found.tolist()) if is_asked else ()
        rows = zip(track.scores.tolist(), track.read_seconds.tolist(), *asked, strict=True)
        lines = (",".join([f"{score:.6g}", f"{s:.8f}", *(f"{v:.6g}" for v in more)]) for score, s, *more in rows)
        write_atomically(self.times(frames.name, "more"), "".join(f"{line}\n" for line in lines))
        self.sign(frames.name)

    def times(self, name: str, what: str) -> Path:
        """Return the file of a sequence's times ("time"), scores ("more") or signature ("made_by")."""
        return self.folder / "times" / f"{name}_{what}.txt"

    def signed(self, name: str) -> bool:
        """Tell whether this tracker has finished a sequence."""
        path = self.times(name, "made_by")
        return path.is_file() and path.read_bytes() == str(self.made_by).encode()

    def sign(self, name: str) -> None:
        """Note that this tracker has finished a sequence; a file for each, so that processes do not meet."""
        write_atomically(self.times(name, "made_by"), str(self.made_by))


def _stamp(path: str) -> tuple[str, int, int]:
    status = Path(path).stat()
    return Path(path).name, status.st_size, status.st_mtime_ns


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
