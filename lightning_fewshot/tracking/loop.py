"""The loop over frames, written once: the first-frame rule, the checks and the clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_fewshot import boxes as geometry
from lightning_fewshot.tracking.frames import AHEAD, Frames, ahead
from lightning_fewshot.tracking.tracker import LookingTracker, Tracker


class Step(NamedTuple):
    """One tracked frame.

    Args:
        t: Number of the frame, from 0.
        frame: ``(3, H, W)`` uint8.
        box: ``(4,)`` float32 on the CPU.
        score: The tracker's; 1 in frame 0.
        seconds: Time that the tracker took.
        read_seconds: Time that the loop waited for the frame.
        truth_score: The tracker's own score of the true box; minus infinity where it does not search there, NaN where
            it was not asked: without truth, in frame 0, and if it has no such score.
        found: 1 or 0, whether the tracker itself says that it found the object; NaN where it does not say.
    """

    t: int
    frame: Tensor
    box: Tensor
    score: float
    seconds: float
    read_seconds: float
    truth_score: float = nan
    found: float = nan


class Track(NamedTuple):
    """What a tracker said about a whole sequence.

    Args:
        boxes: ``(T, 4)`` float32; the first is the one that was given.
        scores: ``(T,)`` float32.
        seconds: ``(T,)`` float64, the tracker's time for each frame; the first is that of ``init``.
        read_seconds: ``(T,)`` float64, waiting for frames.
        truth_scores: ``(T,)`` float32, see :class:`Step`; None: not recorded.
        found: ``(T,)`` float32, see :class:`Step`; None: not recorded.
    """

    boxes: Tensor
    scores: Tensor
    seconds: Tensor
    read_seconds: Tensor
    truth_scores: Tensor | None = None
    found: Tensor | None = None

    @property
    def fps(self) -> float:
        """Frames per second of the tracker alone, first frame included."""
        return len(self.seconds) / max(float(self.seconds.sum()), 1e-9)

    @property
    def fps_with_reading(self) -> float:
        """Frames per second with the time spent waiting for frames."""
        return len(self.seconds) / max(float(self.seconds.sum() + self.read_seconds.sum()), 1e-9)


def track(tracker: Tracker, frames: Frames, box: Tensor, truth: Tensor | None = None) -> Track:
    """Follow an object through a video.

    Frames may differ in size, as in two videos of GOT-10k: boxes are pixels of their own frame.

    Args:
        tracker: Any tracker.
        frames: The video.
        box: ``(4,)``, where the object is in frame 0. The result's first box is this one, with score 1.
        truth: ``(T', 4)``, where it is in each frame, NaN where it is absent. Nothing but ``truth_scores`` depends on
            it.

    Raises:
        ValueError: The box is empty or outside the frame, a frame cannot be decoded, or the tracker returned a box that
            is not finite.

    >>> import numpy as np
    >>> from lightning_fewshot.tracking.frames import ArrayFrames
    >>> from lightning_fewshot.tracking.tracker import IdentityTracker
    >>> video = ArrayFrames(np.zeros((3, 20, 30, 3), np.uint8))
    >>> track(IdentityTracker(), video, torch.tensor([2.0, 3.0, 10.0, 9.0])).boxes[2].tolist()
    [2.0, 3.0, 10.0, 9.0]
    """
    truths = None if truth is None else truth[None]
    return collect(steps[0] for steps in follow_all(tracker, frames, torch.as_tensor(box)[None], truths=truths))


def collect(steps: Iterable[Step]) -> Track:
    """Put the steps of a whole sequence together, at least one; their frames are not kept."""
    rows = [(s.box, s.score, s.truth_score, s.found, s.seconds, s.read_seconds) for s in steps]
    boxes, scores, truth_scores, found, seconds, read = zip(*rows, strict=True)
    times, asked = torch.tensor([seconds, read], dtype=torch.float64), torch.tensor([truth_scores, found])
    return Track(torch.stack(boxes), torch.tensor(scores), times[0], times[1], asked[0], asked[1])


def follow(tracker: Tracker, frames: Frames, box: Tensor, depth: int = AHEAD) -> Iterator[Step]:
    """Follow an object frame by frame; what is done with a step does not count as the tracker's time.

    Args:
        tracker: Any tracker.
        frames: The video.
        box: ``(4,)``, where the object is in frame 0.
        depth: Frames that are decoded ahead; memory does not grow with the length of the video.

    Raises:
        ValueError: As :func:`track`, at the frame that it concerns.
    """
    for steps in follow_all(tracker, frames, torch.as_tensor(box)[None], depth):
        yield steps[0]


def follow_all(
    tracker: Tracker, frames: Frames, boxes: Tensor, depth: int = AHEAD, truths: Tensor | None = None
) -> Iterator[list[Step]]:
    """Follow several objects in one pass over the frames: each has a state of its own, a frame is decoded once.

    Args:
        tracker: Any tracker.
        frames: The video.
        boxes: ``(A, 4)``, where the objects are in frame 0.
        depth: Frames that are decoded ahead.
        truths: ``(A, T', 4)``, where they are in each frame; the trackers learn nothing of it.

    Yields:
        A step of each object. The first object's holds the time of waiting for the frame.

    Raises:
        ValueError: As :func:`track`, at the frame that it concerns.
    """
    objects = [_Object(tracker, box) for box in torch.as_tensor(boxes, dtype=torch.float32)]
    began = time.perf_counter()
    for t, frame in enumerate(ahead(frames, depth)):
        read = time.perf_counter() - began
        steps = []
        for i, tracked in enumerate(objects):
            began = time.perf_counter()
            found, score = tracked.step(frame, t, frames.name)
            seconds = time.perf_counter() - began
            if not bool(found.isfinite().all()):
                raise ValueError(
                    f"{type(tracker).__name__} returned box {found.tolist()} in frame {t} of {frames.name}"
                )
            truth = truths[i, t] if truths is not None and t < truths.shape[1] else None
            steps.append(Step(t, frame, found, score, seconds, 0.0 if i else read, *tracked.ask(truth)))
        yield steps
        began = time.perf_counter()


class _Object:
    """One object that is followed, with its state."""

    def __init__(self, tracker: Tracker, box: Tensor) -> None:
        self.tracker = tracker
        self.box = box
        self.state: Any = None
        self._seen: tuple[Any, Any] | None = None  # state and view of the last decision
        looks = isinstance(tracker, LookingTracker)
        is_whole = looks and getattr(tracker.update, "__func__", None) is LookingTracker.update
        self._looking: LookingTracker | None = tracker if is_whole else None

    @torch.no_grad()
    def step(self, frame: Tensor, t: int, name: str) -> tuple[Tensor, float]:
        """Return where the object is in frame ``t``, and the tracker's score."""
        if t == 0:
            found, score = check_box(self.box, frame, name), 1.0
            self.state = self.tracker.init(frame, found)
        elif self._looking is not None:
            self._seen = self.state, self._looking.look(self.state, frame)
            self.state, found, score = self._looking.decide(*self._seen)
        else:
            self.state, found, score = self.tracker.update(self.state, frame)
        return found.detach().float().cpu(), float(score)  # waits for a GPU

    @torch.no_grad()
    def ask(self, truth: Tensor | None) -> tuple[float, float]:
        """Return the score that the last decision would have given to the true box, and whether the object was found.

        The answer comes from the state before the decision, and changes none.
        """
        if self._looking is None or self._seen is None:
            return nan, nan
        known = truth is not None and bool(geometry.valid(truth))
        score = float(self._looking.box_score(*self._seen, truth.float())) if known else nan
        self._seen = None  # a view is not kept while the next frame is waited for
        found = self._looking.found(self.state)
        return score, nan if found is None else float(found)


def check_box(box: Tensor, frame: Tensor, name: str) -> Tensor:
    """Return a first box as it is, or say why no tracker can start from it.

    A box may leave the frame partly.

    Raises:
        ValueError: It is not finite, has no size, or lies wholly outside.
    """
    height, width = frame.shape[1:]
    geometry.check(box[None], name=f"first box of {name}")
    if not bool(geometry.valid(geometry.clip(box, height, width))):
        numbers = ", ".join(f"{v:g}" for v in box.tolist())
        raise ValueError(f"first box of {name} is ({numbers}), outside the frame of {width} x {height} pixels")
    return box
