"""The supervised protocol: when a tracker fails, when it starts again, and what is left of it on disk."""

import numpy as np
import pytest
import torch

from lightning_fewshot.metrics.vot import Code
from lightning_fewshot.tracking.files import TrackFiles
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.supervised import read_run, track_supervised, write_run
from lightning_fewshot.tracking.tracker import IdentityTracker


def scene(n=30, jumps=(12,)):
    """An object that stands still, and jumps to another place in some frames."""
    polygons, x = [], 10.0
    for t in range(n):
        x = x + 40 if t in jumps else x
        polygons.append([x, 10, x + 20, 10, x + 20, 25, x, 25])
    return ArrayFrames(np.zeros((n, 60, 200, 3), np.uint8), "bag"), torch.tensor(polygons)


def test_a_tracker_that_never_loses_its_object():
    run = track_supervised(IdentityTracker(), *scene(jumps=()))
    assert run.codes.tolist() == [Code.START] + [Code.TRACKED] * 29
    torch.testing.assert_close(run.overlaps, torch.ones(30))


def test_after_a_failure_the_next_start_is_five_frames_later():
    run = track_supervised(IdentityTracker(), *scene())
    codes = run.codes.tolist()
    assert codes[:13] == [Code.START] + [Code.TRACKED] * 11 + [Code.FAILURE]
    assert codes[13:18] == [Code.SKIPPED] * 4 + [Code.START]
    assert codes[18:] == [Code.TRACKED] * 12
    assert run.overlaps[12:17].tolist() == [0] * 5
    assert run.boxes[17].tolist() == [50, 10, 70, 25], "it starts from the truth"
    assert run.boxes[13].isnan().all()
    assert run.fps > 0


def test_a_frame_without_truth_neither_fails_nor_starts():
    frames, polygons = scene()
    polygons[17:19] = torch.nan
    polygons[5] = torch.nan
    run = track_supervised(IdentityTracker(), frames, polygons)
    codes = run.codes.tolist()
    seen = [t for t, seconds in enumerate(run.seconds.tolist()) if seconds > 0]
    assert seen == [*range(13), *range(19, 30)], "frame 5 was tracked, nothing was between failure and start"
    assert codes[5] == Code.SKIPPED
    assert codes[6] == Code.TRACKED, "the tracker went on"
    assert codes[17:20] == [Code.SKIPPED, Code.SKIPPED, Code.START]


def test_a_run_is_read_as_it_was_written(tmp_path):
    frames, polygons = scene()
    run = track_supervised(IdentityTracker(), frames, polygons)
    write_run(TrackFiles(tmp_path, "me"), frames, run)
    found = read_run(TrackFiles(tmp_path, "me"), frames)
    assert torch.equal(found.codes, run.codes)
    torch.testing.assert_close(found.overlaps, run.overlaps)
    tracked = run.codes == Code.TRACKED
    torch.testing.assert_close(found.boxes[tracked], run.boxes[tracked])
    lines = (tmp_path / "bag.txt").read_text().splitlines()
    assert [lines[0], lines[12], lines[13]] == ["1", "2", "0"]
    assert lines[1] == "10.0000,10.0000,20.0000,15.0000"
    assert read_run(TrackFiles(tmp_path, "other"), frames) is None
    (tmp_path / "bag.txt").write_text("1\n")
    assert read_run(TrackFiles(tmp_path, "me"), frames) is None


def test_a_start_outside_the_frame_is_named():
    frames, polygons = scene()
    with pytest.raises(ValueError, match=r"first box of bag is .* outside the frame"):
        track_supervised(IdentityTracker(), frames, polygons + 500)
