"""A video of one's own: a file or a folder of frames, with a box, or with its truth beside it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.tracking.base import Target, TrackingData
from lightning_fewshot.boxes import xywh_to_xyxy
from lightning_fewshot.episodes import Episode
from lightning_fewshot.tracking.box_files import read_boxes
from lightning_fewshot.tracking.episodes import sequence_episode
from lightning_fewshot.tracking.frames import Frames
from lightning_fewshot.tracking.videos import open_frames


class VideoFile(TrackingData):
    """One video to track objects in: ``predict`` needs a box of each, ``test`` a file of boxes.

    Args:
        video: A video file, or a folder of image files.
        box: Where the object is in the first frame: "x,y,width,height" in pixels. Of several objects a list, or
            ``--data.box`` once for each.
        truth: File with one line ``x,y,w,h`` a frame, for ``test``; its first line stands in for ``box``.
        options: See TrackingData.
    """

    def __init__(
        self, video: str | None = None, box: list[str] | str | None = None, truth: str | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        if box is not None and truth is not None:
            raise ValueError("box and truth are both given, but the first line of truth is the box")
        self.video = video
        self.truth = truth
        self.start_boxes = [parse_box(text) for text in ([box] if isinstance(box, str) else box or [])]

    @cached_property
    def frames(self) -> Frames:
        """The video, opened."""
        if self.video is None:
            raise ValueError("no video is given: say --data.video clip.mp4 (or a folder of frames)")
        return open_frames(self.video)

    def count(self, split: str) -> int:
        """Return 1: there is one video."""
        _ = self.boxes
        return 1

    @cached_property
    def boxes(self) -> torch.Tensor:
        """The truth ``(T', 4)`` as far as it is known: of the first frame at least."""
        if self.truth is not None:
            boxes = xywh_to_xyxy(read_boxes(Path(self.truth).expanduser())).float()
            boxes[~(boxes[:, 2:] > boxes[:, :2]).all(1)] = torch.nan
            return boxes
        if not self.start_boxes:
            raise ValueError("no box is given: say --data.box x,y,width,height of the object in the first frame")
        return torch.tensor(self.start_boxes[:1])

    def setup(self, stage: str) -> None:
        """Open the video, so that what is wrong with it is said at once."""
        _ = self.frames
        super().setup(stage)
        if stage in ("test", "validate") and self.truth is None:
            raise ValueError("there is nothing to compare with: say --data.truth groundtruth.txt, or use predict")

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Return the video with its boxes."""
        return Target(self.frames, self.boxes)

    def sequence(self, split: str, index: int) -> Episode:
        """Return the video; where one box is known, the rest is not truth."""
        if self.truth is not None:
            return super().sequence(split, index)
        episode = sequence_episode(self.frames, self.boxes, index, truth=False)
        return episode._replace(support=episode.support._replace(boxes=[torch.tensor(self.start_boxes)]))


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Turn "x,y,width,height" into ``(x1, y1, x2, y2)``.

    Raises:
        ValueError: It is not four numbers, or width or height is not positive.

    >>> parse_box("10,20,80,60")
    (10.0, 20.0, 90.0, 80.0)
    """
    try:
        x, y, width, height = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(f"box is {text!r} but must be four numbers x,y,width,height in pixels") from None
    if not (width > 0 and height > 0):
        raise ValueError(f"box is {text!r} but width and height must be positive")
    return x, y, x + width, y + height
