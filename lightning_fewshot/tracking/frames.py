"""Where frames come from: image files, a video file, an array. Frames are ``(3, H, W)`` uint8 RGB.

``Frames`` is not a ``Sequence`` on purpose: Lightning, collation and pinning then pass it on as it is.
"""

from __future__ import annotations

import queue
import re
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v")
TAILS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}  # how a whole file of a kind ends
AHEAD = 8  # frames decoded before they are asked for
FPS = 25.0  # frames per second of a video that does not state its own
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


class VideoFrames(Frames):
    """A video file. Iteration decodes every frame once; ``frames[t]`` seeks, and goes on from there for t + 1.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No frame can be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path).stem)
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no video file {path}")
        self.path = str(path)
        self._capture: cv2.VideoCapture | None = None
        self._next = 0
        first = self._open()
        self.count = max(1, int(first.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.fps = float(first.get(cv2.CAP_PROP_FPS)) or FPS
        first.release()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        capture = self._open()
        try:
            for t in range(self.count):
                good, image = capture.read()
                if not good:
                    warnings.warn(f"{self.path} promises {self.count} frames, {t} can be decoded", stacklevel=2)
                    return
                yield to_frame(image[..., ::-1])
        finally:
            capture.release()

    def frame(self, t: int) -> Tensor:
        """Decode frame ``t``; frames that follow each other are not decoded twice."""
        if self._capture is None:
            self._capture, self._next = self._open(), 0
        if t != self._next:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, t)
        good, image = self._capture.read()
        self._next = t + 1
        if not good:
            raise ValueError(f"frame {t} of {self.path} cannot be decoded")
        return to_frame(image[..., ::-1])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind when a worker process gets this."""
        return {**self.__dict__, "_capture": None}

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(self.path)
        if not capture.isOpened() or not capture.grab():
            raise ValueError(f"video {self.path} cannot be decoded: damaged, or in a format that OpenCV does not know")
        capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        return capture


def open_frames(path: str | Path) -> Frames:
    """Open a folder of images (in natural order of their names) or a video file.

    The video has the name of the file or folder; a folder called img, color, images or frames that of its parent.

    Raises:
        FileNotFoundError: There is nothing at ``path``.
        ValueError: The folder holds no image, or the file cannot be decoded.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no video file or folder of frames at {path}")
    if path.is_file():
        return VideoFrames(path)
    inner = path.name in ("img", "color", "images", "frames")
    return ImageFrames(list_images(path), path.resolve().parent.name if inner else path.resolve().name)


def list_images(folder: str | Path) -> list[Path]:
    """List the image files of a folder in natural order: 2.jpg before 10.jpg.

    Raises:
        ValueError: There is none.
    """
    found = [path for path in Path(folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise ValueError(f"folder {folder} holds no image")
    return sorted(found, key=lambda path: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", path.name)])


def read_frame(path: str | Path) -> Tensor:
    """Read an image file as ``(3, H, W)`` uint8 RGB, whatever its depth and colors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is truncated, or no image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise FileNotFoundError(f"frame {path} is missing") from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) and _is_whole(data) else None
    if image is None:
        raise ValueError(f"frame {path} is truncated or not an image")
    return to_frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def to_frame(image: np.ndarray) -> Tensor:
    """Turn ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` of uint8 or uint16 into ``(3, H, W)`` uint8.

    Raises:
        ValueError: Another shape or type.

    >>> to_frame(np.full((2, 4), 65535, np.uint16)).shape, int(to_frame(np.full((2, 4), 65535, np.uint16)).max())
    (torch.Size([3, 2, 4]), 255)
    """
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a frame is {image.shape} {image.dtype}, expected (H, W, 1 or 3) uint8 or uint16")
    if image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.ascontiguousarray(image)
    return torch.from_numpy(image).permute(2, 0, 1)


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


def _is_whole(data: np.ndarray) -> bool:
    """Whether the file's end is there: OpenCV fills what is missing of a JPEG with grey and says nothing."""
    head, tail = data[:4].tobytes(), data[-4096:].tobytes()
    return all(end in tail for start, end in TAILS.items() if head.startswith(start))
