"""The loop: the first-frame rule, the clock, and everything that can be wrong with a frame or a box."""

import gc
import math
import time

import numpy as np
import pytest
import torch

from lightning_fewshot.tracking.annotate import track_to_files
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.loop import follow, track
from lightning_fewshot.tracking.tracker import IdentityTracker, Tracker
from lightning_fewshot.tracking.videos import VideoFrames, open_frames

BOX = torch.tensor([5.0, 5.0, 15.0, 12.0])


class Counter:
    """Moves right by one pixel a frame; counts in its state."""

    def __init__(self, seconds=0.0, nan_at=None):
        self.seconds, self.nan_at = seconds, nan_at

    def init(self, frame, box):
        time.sleep(self.seconds)
        return 0, box

    def update(self, state, frame):
        time.sleep(self.seconds)
        count, box = state[0] + 1, state[1] + torch.tensor([1.0, 0, 1, 0])
        return (count, box), box * (math.nan if count == self.nan_at else 1), torch.tensor(1.0 / count)


def frames(n, height=20, width=30):
    return ArrayFrames(np.zeros((n, height, width, 3), np.uint8), "clip")


def test_the_first_box_is_the_given_one():
    found = track(Counter(), frames(4), BOX)
    assert found.boxes[:, 0].tolist() == [5, 6, 7, 8]
    assert found.scores.tolist() == pytest.approx([1, 1, 1 / 2, 1 / 3])
    assert found.boxes.dtype == torch.float32
    assert len(found.seconds) == len(found.read_seconds) == 4


def test_two_sequences_do_not_mix():
    tracker = Counter()
    one, other = follow(tracker, frames(5), BOX), follow(tracker, frames(5), BOX + 3)
    pairs = [(a.box[0].item(), b.box[0].item()) for a, b in zip(one, other, strict=True)]
    assert pairs == [(5 + t, 8 + t) for t in range(5)]


def test_a_video_of_one_frame():
    found = track(Counter(), frames(1), BOX)
    assert torch.equal(found.boxes, BOX[None])
    assert found.fps > 0


def test_the_identity_tracker_is_a_tracker():
    assert isinstance(IdentityTracker(), Tracker)
    assert torch.equal(track(IdentityTracker(), frames(3), BOX).boxes, BOX.expand(3, 4))


def test_the_clock_counts_the_tracker_and_not_what_the_caller_does():
    seconds, reading = [], []
    for step in follow(Counter(seconds=0.01), frames(5), BOX):
        time.sleep(0.03)
        seconds.append(step.seconds)
        reading.append(step.read_seconds)
    assert min(seconds) >= 0.01
    assert np.median(seconds) < 0.025
    assert np.median(reading) < 0.02


def test_reading_counts_for_itself():
    class Slow(ArrayFrames):
        def frame(self, t):
            time.sleep(0.01)
            return super().frame(t)

    found = track(IdentityTracker(), Slow(np.zeros((8, 20, 30, 3), np.uint8)), BOX)
    assert found.read_seconds.sum() > 0.06
    assert found.seconds.sum() < 0.03
    assert found.fps_with_reading < 130 < found.fps


def test_no_gradient_is_kept_unless_asked_for():
    class Learner(Counter):
        def update(self, state, frame):
            assert not torch.is_grad_enabled()
            with torch.enable_grad():
                weight = torch.ones(1, requires_grad=True)
                (weight * 2).sum().backward()
                assert weight.grad is not None
            return super().update(state, frame)

    track(Learner(), frames(3), BOX)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([5.0, 5.0, 5.0, 12.0], "x1 < x2 and y1 < y2 must hold"),
        ([15.0, 5.0, 5.0, 12.0], "x1 < x2 and y1 < y2 must hold"),
        ([math.nan, 5.0, 5.0, 12.0], "all four numbers must be finite"),
        ([40.0, 5.0, 50.0, 12.0], "outside the frame of 30 x 20 pixels"),
        ([-20.0, -20.0, -5.0, -2.0], "outside the frame of 30 x 20 pixels"),
    ],
)
def test_a_first_box_that_no_tracker_can_start_from(box, message):
    with pytest.raises(ValueError, match=f"first box of clip.*{message}"):
        track(IdentityTracker(), frames(3), torch.tensor(box))


def test_a_first_box_may_leave_the_frame_partly():
    box = torch.tensor([-5.0, -5.0, 8.0, 8.0])
    assert torch.equal(track(IdentityTracker(), frames(2), box).boxes[0], box)


def test_frames_of_another_size_in_the_middle_are_tracked(tmp_path):
    """Two videos of GOT-10k change their size: boxes are pixels of their own frame, and a film keeps its first size."""
    images = [np.zeros((20, 30, 3), np.uint8)] * 3 + [np.zeros((40, 30, 3), np.uint8)]
    assert len(track(IdentityTracker(), ArrayFrames(images, "clip"), BOX).boxes) == 4
    record = track_to_files(IdentityTracker(), ArrayFrames(images, "clip"), BOX[None], tmp_path)
    film = list(VideoFrames(record["annotated"]))
    assert [tuple(frame.shape) for frame in film] == [(3, 20, 30)] * 4


def test_a_frame_that_cannot_be_read_in_the_middle(maker, tmp_path):
    maker.write_images(tmp_path, maker.images(6))
    (tmp_path / "0004.jpg").write_bytes(b"\xff\xd8 cut")
    found = open_frames(tmp_path)
    steps = follow(IdentityTracker(), found, torch.tensor([10.0, 12.0, 22.0, 24.0]))
    assert [next(steps).t for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"0004\.jpg is truncated"):
        next(steps)


def test_a_tracker_that_returns_no_box_is_named():
    with pytest.raises(ValueError, match=r"Counter returned box \[nan.* in frame 2 of clip"):
        track(Counter(nan_at=2), frames(5), BOX)


def test_memory_does_not_grow_with_the_video():
    class Endless(ArrayFrames):
        def __len__(self):
            return 10_000

        def frame(self, t):
            return torch.zeros(3, 40, 60, dtype=torch.uint8)

    alive = 0
    for step in follow(IdentityTracker(), Endless(np.zeros((1, 2, 2, 3), np.uint8)), BOX):
        if step.t % 2500 == 2499:
            gc.collect()
            count = sum(isinstance(o, torch.Tensor) for o in gc.get_objects())
            assert alive == 0 or count <= alive + 20
            alive = count
    assert step.t == 9999
