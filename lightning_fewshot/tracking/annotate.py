"""Track a video for a user: boxes as txt, an annotated mp4, progress and speed. Memory does not grow with length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from lightning_fewshot.boxes import xyxy_to_xywh
from lightning_fewshot.drawing import Place, draw_boxes, mask_colors, write_label
from lightning_fewshot.files import write_atomically
from lightning_fewshot.tracking.box_files import write_boxes
from lightning_fewshot.tracking.files import TrackFiles
from lightning_fewshot.tracking.frames import Frames
from lightning_fewshot.tracking.loop import Step, Track, collect, follow_all
from lightning_fewshot.tracking.tracker import Tracker
from lightning_fewshot.tracking.videos import FPS

FAR = 1e5  # pixels: a tracker's box may lie anywhere
WHITE = (255, 255, 255)
Progress = Callable[[str, int, int], None]


def track_to_files(
    tracker: Tracker, frames: Frames, boxes: Tensor, folder: str | Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Track the objects of a video in one pass, and write what was found into a folder.

    ``<name>.mp4`` shows the boxes; ``<name>.mot.txt`` has a line ``frame,id,x,y,w,h,score,-1,-1,-1`` for each object of
    each frame, frames and ids from 1, pixels from 0. One object has ``<name>.txt`` with a line ``x,y,w,h`` a frame;
    several have ``<name>_<id>.txt``.

    Args:
        tracker: Any tracker.
        frames: The video.
        boxes: ``(A, 4)`` in frame 0.
        folder: Made if missing.
        progress: Called with the video's name, frames done and frames in all, after each frame.

    Returns:
        The files' names, the number of frames and the speed over all objects.
    """
    film = Path(folder) / f"{frames.name}.mp4"
    film.parent.mkdir(parents=True, exist_ok=True)
    kept: list[list[Step]] = [[] for _ in boxes]
    for steps in write_film(follow_all(tracker, frames, boxes), film, getattr(frames, "fps", FPS)):
        for object_steps, step in zip(kept, steps, strict=True):
            object_steps.append(step._replace(frame=None))
        if progress is not None:
            progress(frames.name, steps[0].t + 1, len(frames))
    tracks = list(map(collect, kept))
    files = write_tracks(film.parent, frames, tracks)
    seconds = sum(float(track.seconds.sum()) for track in tracks)
    reading = sum(float(track.read_seconds.sum()) for track in tracks)
    return {
        "video": frames.name,
        "boxes": str(files[0]),
        "mot": str(files[-1]),
        "annotated": str(film),
        "objects": len(tracks),
        "frames": len(tracks[0].boxes),
        "fps": round(len(tracks[0].boxes) / max(seconds, 1e-9), 2),
        "fps_with_reading": round(len(tracks[0].boxes) / max(seconds + reading, 1e-9), 2),
    }


def write_tracks(folder: Path, frames: Frames, tracks: Sequence[Track]) -> list[Path]:
    """Write the boxes of every object, and all in one MOT file; return the files, the MOT file last."""
    mot = folder / f"{frames.name}.mot.txt"
    write_atomically(mot, mot_lines(tracks))
    if len(tracks) == 1:
        TrackFiles(folder).write(frames, tracks[0])
        return [folder / f"{frames.name}.txt", mot]
    files = [folder / f"{frames.name}_{number}.txt" for number in range(1, len(tracks) + 1)]
    for file, track in zip(files, tracks, strict=True):
        write_boxes(file, xyxy_to_xywh(track.boxes.double()))
    return [*files, mot]


def mot_lines(tracks: Sequence[Track]) -> str:
    """Return the lines of MOTChallenge's result files."""
    boxes = [xyxy_to_xywh(track.boxes.double()).tolist() for track in tracks]
    scores = [track.scores.tolist() for track in tracks]
    rows = [(t, i) for t in range(len(boxes[0])) for i in range(len(tracks))]
    return "".join(
        f"{t + 1},{i + 1},{','.join(f'{v:.2f}' for v in boxes[i][t])},{scores[i][t]:.4f},-1,-1,-1\n" for t, i in rows
    )


def write_film(steps: Iterator[list[Step]], path: Path, fps: float) -> Iterator[list[Step]]:
    """Write each frame with the boxes and scores of its objects into a video, and pass the steps on.

    Raises:
        OSError: No video can be written at ``path``.
    """
    writer = None
    try:
        for of_frame in steps:
            picture = annotated(of_frame)
            if writer is None:
                size = (picture.shape[1], picture.shape[0])  # a film has one size: later frames are fitted into it
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise OSError(f"cannot write the video {path}")
            writer.write(_fitted(picture, size))
            yield of_frame
    finally:
        if writer is not None:
            writer.release()


def annotated(steps: Sequence[Step]) -> np.ndarray:
    """Return a frame as ``(H, W, 3)`` BGR with its number, and the box and score of every object in its color."""
    colors, several = mask_colors(len(steps)), len(steps) > 1
    names = [f"{number}: {step.score:.2f}" if several else "" for number, step in enumerate(steps, 1)]
    boxes = torch.stack([step.box for step in steps]).clamp(-FAR, FAR)
    taken: list[Place] = []
    text = f"{steps[0].t}" if several else f"{steps[0].t}, score {steps[0].score:.2f}"
    picture = write_label(steps[0].frame.cpu(), (0, 0), text, WHITE if several else colors[0], taken)
    picture = draw_boxes(picture, boxes, names, colors, taken)
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy()[..., ::-1])


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
