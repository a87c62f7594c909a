"""Track one video for a user: boxes as txt, an annotated mp4, progress and speed. Memory does not grow with length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from lightning_fewshot.tracking.files import TrackFiles
from lightning_fewshot.tracking.frames import Frames
from lightning_fewshot.tracking.loop import Step, collect, follow
from lightning_fewshot.tracking.tracker import Tracker
from lightning_fewshot.tracking.videos import FPS

ORANGE = (0, 140, 255)  # BGR; as in the other pictures of a run
FAR = 1e6  # pixels: a tracker's box may lie anywhere, OpenCV's coordinates are 32-bit integers
Progress = Callable[[str, int, int], None]


def track_to_files(
    tracker: Tracker, frames: Frames, box: Tensor, folder: str | Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Track a video and write ``<name>.txt`` and ``<name>.mp4`` into a folder.

    Args:
        tracker: Any tracker.
        frames: The video.
        box: ``(4,)`` in frame 0.
        folder: Made if missing.
        progress: Called with the video's name, frames done and frames in all, after each frame.

    Returns:
        A record with the files' names, the number of frames and the speed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    film = folder / f"{frames.name}.mp4"

    def shown() -> Iterator[Step]:
        for step in write_film(follow(tracker, frames, box), film, getattr(frames, "fps", FPS)):
            if progress is not None:
                progress(frames.name, step.t + 1, len(frames))
            yield step

    track = collect(shown())
    TrackFiles(folder).write(frames, track)
    return {
        "video": frames.name,
        "boxes": str(folder / f"{frames.name}.txt"),
        "annotated": str(film),
        "frames": len(track.boxes),
        "fps": round(track.fps, 2),
        "fps_with_reading": round(track.fps_with_reading, 2),
    }


def write_film(steps: Iterator[Step], path: Path, fps: float) -> Iterator[Step]:
    """Write each step's frame with its box and score into a video, and pass the step on.

    Raises:
        OSError: No video can be written at ``path``.
    """
    writer = None
    try:
        for step in steps:
            picture = annotated(step)
            if writer is None:
                size = (picture.shape[1], picture.shape[0])  # a film has one size: later frames are fitted into it
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise OSError(f"cannot write the video {path}")
            writer.write(_fitted(picture, size))
            yield step
    finally:
        if writer is not None:
            writer.release()


def annotated(step: Step) -> np.ndarray:
    """Return the frame as ``(H, W, 3)`` BGR with the box, the number of the frame and the score."""
    picture = np.ascontiguousarray(step.frame.permute(1, 2, 0).numpy()[..., ::-1])
    x1, y1, x2, y2 = (round(v) for v in step.box.clamp(-FAR, FAR).tolist())
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), ORANGE, 2)
    text = f"{step.t}  {step.score:.2f}"
    cv2.putText(picture, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, ORANGE, 1, cv2.LINE_AA)
    return picture


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture of another size reduced or enlarged into ``size`` (width, height), with black beside it."""
    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    scale = min(size[0] / width, size[1] / height)
    inner = cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[: inner.shape[0], : inner.shape[1]] = inner[: size[1], : size[0]]
    return canvas
