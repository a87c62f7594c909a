"""Where frames come from: image files or an array (``videos`` has video files). Frames are ``(3, H, W)`` uint8 RGB.

``Frames`` is not a ``Sequence`` on purpose: Lightning, collation and pinning then pass it on as it is.
"""

from __future__ import annotations

import queue
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lightning_fewshot.files import is_litter
from lightning_fewshot.tracking.reading import read_frame, to_frame

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
AHEAD = 8  # frames decoded before they are asked for
_END = object()


class Frames(ABC):
    """A video: ``len(frames)``, ``frames[t]`` decodes one frame, ``frames[a:b]`` is a part, iteration is in order.

    Args:
        name: What the video is called in results and errors.
        origin: Coordinate that the benchmark's files give the first pixel's edge: 0, or 1 where they count from 1.
    """

    def __init__(self, name: str, origin: float = 0.0) -> None:
        self.name, self.origin = name, origin

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def frame(self, t: int) -> Tensor:
        """Decode frame ``t``, 0 <= t < len, as ``(3, H, W)`` uint8."""

    def __getitem__(self, t: int | slice) -> Any:
        if isinstance(t, slice):
            return FramesPart(self, range(*t.indices(len(self))))
        if not -len(self) <= t < len(self):
            raise IndexError(f"frame {t} of {self.name}, which has {len(self)} frames")
        return self.frame(t % len(self))

    def __iter__(self) -> Iterator[Tensor]:
        return (self.frame(t) for t in range(len(self)))


class FramesPart(Frames):
    """Some frames of a video, by number."""

    def __init__(self, whole: Frames, numbers: Sequence[int]) -> None:
        super().__init__(whole.name, whole.origin)
        self.whole, self.numbers = whole, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def frame(self, t: int) -> Tensor:
        """Decode frame ``t`` of the part."""
        return self.whole.frame(self.numbers[t])


class ImageFrames(Frames):
    """One image file a frame, of any kind: grey images become RGB, 16 bits become 8.

    Args:
        paths: The files in order.
        name: What the video is called.
        origin: See :class:`Frames`.

    Raises:
        ValueError: There is no file.
    """

    def __init__(self, paths: Sequence[str | Path], name: str, origin: float = 0.0) -> None:
        super().__init__(name, origin)
        if not paths:
            raise ValueError(f"video {name} has no frame")
        self.paths = [str(path) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def frame(self, t: int) -> Tensor:
        """Read file ``t``."""
        return read_frame(self.paths[t])


class ArrayFrames(Frames):
    """Frames in memory, or drawn on demand.

    Args:
        images: ``(T, H, W, 3)`` uint8 RGB; or anything with a length and ``images[t]`` of ``(H, W, 3)``.
        name: What the video is called.

    Raises:
        ValueError: There is no image.
    """

    def __init__(self, images: Any, name: str = "array") -> None:
        super().__init__(name)
        if len(images) == 0:
            raise ValueError(f"video {name} has no frame")
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def frame(self, t: int) -> Tensor:
        """Return frame ``t``."""
        return to_frame(np.asarray(self.images[t]))


def list_images(folder: str | Path) -> list[Path]:
    """List the image files of a folder in natural order: 2.jpg before 10.jpg.

    Raises:
        ValueError: There is none.
    """
    folder = Path(folder)
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not is_litter(p, folder)]
    if not files:
        raise ValueError(f"folder {folder} holds no image")
    return sorted(files, key=lambda path: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", path.name)])


def ahead(frames: Frames, depth: int = AHEAD) -> Iterator[Tensor]:
    """Iterate in order while a thread decodes up to ``depth`` frames ahead; what it raises is raised here."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_decode, args=(frames, ready, stop), daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _decode(frames: Frames, ready: queue.Queue[Any], stop: threading.Event) -> None:
    try:
        for frame in frames:
            if not _put(ready, frame, stop):
                return
        _put(ready, _END, stop)
    except BaseException as error:  # it belongs to the reader's thread
        _put(ready, error, stop)


def _put(ready: queue.Queue[Any], item: Any, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
