"""VOT's supervised protocol: a tracker that lost its object is started again five frames later."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fewshot.boxes import polygon_boxes, valid
from lightning_fewshot.metrics.vot import SKIP, Code, polygon_iou
from lightning_fewshot.tracking.frames import Frames, ahead
from lightning_fewshot.tracking.loop import check_box, check_frame
from lightning_fewshot.tracking.tracker import Tracker


class SupervisedRun(NamedTuple):
    """What happened in a sequence.

    Args:
        boxes: ``(T, 4)``, NaN where nothing was tracked.
        overlaps: ``(T,)``, 1 at a start and 0 at a failure.
        codes: ``(T,)`` int64, :class:`lightning_fewshot.metrics.vot.Code`.
        seconds: ``(T,)`` float64, the tracker's time.
    """

    boxes: Tensor
    overlaps: Tensor
    codes: Tensor
    seconds: Tensor

    @property
    def fps(self) -> float:
        """Frames per second of the tracker alone, over the frames it saw."""
        seen = self.codes != Code.SKIPPED
        return int(seen.sum()) / max(float(self.seconds.sum()), 1e-9)


def track_supervised(tracker: Tracker, frames: Frames, polygons: Tensor, skip: int = SKIP) -> SupervisedRun:
    """Follow an object and start again after every failure.

    Args:
        tracker: Any tracker.
        frames: The video.
        polygons: ``(T, 8)``, the truth; a frame without one (NaN) can neither fail nor start.
        skip: Frames from a failure to the next start.
    """
    starts = polygon_boxes(polygons)
    state, resume, size, rows = None, 0, None, []
    for t, (frame, polygon, start) in enumerate(zip(ahead(frames), polygons, starts, strict=False)):
        size = size or frame.shape
        check_frame(frame, size, frames.name, t)
        began, known = time.perf_counter(), bool(polygon.isfinite().all())
        box, overlap, code = torch.full((4,), torch.nan), 0.0, Code.SKIPPED
        with torch.no_grad():
            if state is None and t >= resume and known:
                state = tracker.init(frame, check_box(start, frame, frames.name))
                box, overlap, code = start, 1.0, Code.START
            elif state is not None:
                state, box, _ = tracker.update(state, frame)
                box, code = box.detach().float().cpu(), Code.TRACKED
        seconds = time.perf_counter() - began
        if code is Code.TRACKED and known:
            overlap = polygon_iou(polygon, box, *frame.shape[1:]) if bool(valid(box)) else 0.0
            if overlap <= 0:
                state, resume, code = None, t + skip, Code.FAILURE
        elif code is Code.TRACKED:
            code = Code.SKIPPED
        rows.append((box, overlap, int(code), seconds))
    boxes, overlaps, codes, times = zip(*rows, strict=True)
    return SupervisedRun(
        torch.stack(boxes), torch.tensor(overlaps), torch.tensor(codes), torch.tensor(times, dtype=torch.float64)
    )
