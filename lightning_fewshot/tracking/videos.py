"""Video files as frames, upright. What the container promises is checked: a number of frames is often wrong or absent.

Frames are decoded in their order and never sought: where frames come at varying times, or a browser wrote the file
while it recorded, seeking ends elsewhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
from torch import Tensor

from lightning_fewshot.images import MAX_PIXELS
from lightning_fewshot.tracking.frames import Frames, ImageFrames, list_images
from lightning_fewshot.tracking.reading import to_frame

FPS = 25.0  # frames per second of a video that does not state its own
MOST_FPS = 1000.0  # more is no speed but a time base


class VideoFrames(Frames):
    """A video file. Iteration decodes every frame once; ``frames[t]`` goes on from the frame before, or begins anew.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: No frame can be decoded, or frames are larger than ``lightning_fewshot.images.MAX_PIXELS``.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path).stem)
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no video file {path}")
        self.path = str(path)
        self._capture: cv2.VideoCapture | None = None
        self._next = 0
        first = self._open()
        promised, fps = first.get(cv2.CAP_PROP_FRAME_COUNT), float(first.get(cv2.CAP_PROP_FPS))
        first.release()
        believable = 0 < promised <= Path(path).stat().st_size  # a frame takes a byte at least
        self.count = int(promised) if believable else self._decodable()
        self.fps = fps if 0 < fps <= MOST_FPS else FPS

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        capture, t = self._open(), 0
        try:
            while (image := capture.read()[1]) is not None:
                yield to_frame(image[..., ::-1])
                t += 1
        finally:
            capture.release()
        if t != self.count:
            warnings.warn(f"{self.path} promises {self.count} frames, {t} can be decoded", stacklevel=2)

    def frame(self, t: int) -> Tensor:
        """Decode frame ``t``; frames that follow each other are not decoded twice."""
        if self._capture is None or t < self._next:
            self._capture, self._next = self._open(), 0
        while self._next < t and self._capture.grab():
            self._next += 1
        image = self._capture.read()[1] if self._next == t else None
        self._next += 1
        if image is None:
            raise ValueError(f"frame {t} of {self.path} cannot be decoded")
        return to_frame(image[..., ::-1])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind when a worker process gets this."""
        return {**self.__dict__, "_capture": None}

    def _open(self) -> cv2.VideoCapture:
        """Open the file at its first frame, after a look whether that can be decoded."""
        if not (probe := cv2.VideoCapture(self.path)).isOpened() or not probe.grab():
            raise ValueError(f"video {self.path} cannot be decoded: damaged, or in a format that OpenCV does not know")
        width, height = (int(probe.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        probe.release()
        if width * height > MAX_PIXELS:
            raise ValueError(f"video {self.path} has {width}x{height} pixels but {MAX_PIXELS} are the most")
        return cv2.VideoCapture(self.path)

    def _decodable(self) -> int:
        capture, count = self._open(), 0
        while capture.grab():
            count += 1
        capture.release()
        return count


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
