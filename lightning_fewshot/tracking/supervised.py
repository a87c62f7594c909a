"""VOT's supervised protocol: a tracker that lost its object is started again five frames later.

Result files look as VOT's trajectories do: a line is ``x,y,w,h``, or 1 for a start, 2 for a failure, 0 for a frame that
was skipped or has no truth. Overlaps and codes stand in ``times/<sequence>_more.txt``.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_fewshot.boxes import polygon_boxes, valid, xywh_to_xyxy, xyxy_to_xywh
from lightning_fewshot.files import write_atomically
from lightning_fewshot.metrics.vot import SKIP, Code, polygon_iou
from lightning_fewshot.tracking.files import TrackFiles
from lightning_fewshot.tracking.frames import Frames, ahead
from lightning_fewshot.tracking.loop import check_box
from lightning_fewshot.tracking.tracker import Tracker

MARKS = {Code.START: "1", Code.FAILURE: "2", Code.SKIPPED: "0"}


class SupervisedRun(NamedTuple):
    """What happened in a sequence.

    Args:
        boxes: ``(T, 4)``, NaN where nothing was tracked.
        overlaps: ``(T,)``, 1 at a start and 0 at a failure.
        codes: ``(T,)`` int64, :class:`lightning_fewshot.metrics.vot.Code`.
        seconds: ``(T,)`` float64, the tracker's time; 0 where it did not see the frame.
    """

    boxes: Tensor
    overlaps: Tensor
    codes: Tensor
    seconds: Tensor

    @property
    def fps(self) -> float:
        """Frames per second of the tracker alone, over the frames it saw."""
        return int((self.seconds > 0).sum()) / max(float(self.seconds.sum()), 1e-9)


def track_supervised(tracker: Tracker, frames: Frames, polygons: Tensor, skip: int = SKIP) -> SupervisedRun:
    """Follow an object and start again after every failure.

    Args:
        tracker: Any tracker.
        frames: The video.
        polygons: ``(T, 8)``, the truth; a frame without one (NaN) can neither fail nor start.
        skip: Frames from a failure to the next start.

    Raises:
        ValueError: An object lies outside the frame that the tracker would start from.
    """
    starts = polygon_boxes(polygons)
    state, resume, rows = None, 0, []
    for t, (frame, polygon, start) in enumerate(zip(ahead(frames), polygons, starts, strict=False)):
        began, known = time.perf_counter(), bool(polygon.isfinite().all())
        box, overlap, code = torch.full((4,), torch.nan), 0.0, Code.SKIPPED
        with torch.no_grad():
            if state is None and t >= resume and known:
                state = tracker.init(frame, check_box(start, frame, frames.name))
                box, overlap, code = start, 1.0, Code.START
            elif state is not None:
                state, box, _ = tracker.update(state, frame)
                box, code = box.detach().float().cpu(), Code.TRACKED
        seconds = time.perf_counter() - began if code is not Code.SKIPPED else 0.0
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


def write_run(files: TrackFiles, frames: Frames, run: SupervisedRun) -> None:
    """Write what happened in one sequence."""
    codes, boxes_xywh = run.codes.tolist(), xyxy_to_xywh(run.boxes.double()).tolist()
    lines = [MARKS.get(c) or ",".join(f"{v:.4f}" for v in box) for c, box in zip(codes, boxes_xywh, strict=True)]
    write_atomically(files.folder / f"{frames.name}.txt", "\n".join(lines) + "\n")
    write_atomically(files.times(frames.name, "time"), "".join(f"{s:.8f}\n" for s in run.seconds.tolist()))
    rows = zip(run.overlaps.tolist(), codes, strict=True)
    write_atomically(files.times(frames.name, "more"), "".join(f"{overlap:.9g},{code}\n" for overlap, code in rows))
    files.sign(frames.name)


def read_run(files: TrackFiles, frames: Frames) -> SupervisedRun | None:
    """Return what is known about a sequence; None where it must be run (again)."""
    if not files.signed(frames.name):
        return None
    try:
        lines = (files.folder / f"{frames.name}.txt").read_text().split()
        rows = [[float(v) for v in line.split(",")] if "," in line else [np.nan] * 4 for line in lines]
        seconds = np.loadtxt(files.times(frames.name, "time"), ndmin=1)
        more = np.loadtxt(files.times(frames.name, "more"), delimiter=",", ndmin=2)
    except (OSError, ValueError):  # damaged since
        return None
    if not len(rows) == len(seconds) == len(more) or more.shape[1] != 2 or not np.isin(more[:, 1], list(Code)).all():
        return None
    if any(len(row) != 4 for row in rows):
        return None
    boxes, overlaps, codes = xywh_to_xyxy(torch.tensor(rows)), torch.from_numpy(more[:, 0]).float(), more[:, 1]
    return SupervisedRun(boxes, overlaps, torch.from_numpy(codes).long(), torch.from_numpy(seconds))
