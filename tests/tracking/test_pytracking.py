"""The adapter in pytracking's shape, run by a loop as pytracking's own, with the weights that come with the package."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from clips import as_frames

import lightning_fewshot as lf
from datamodules.tracking.drawn_videos import DrawnFrames, DrawnTarget, DrawnVideoSettings
from lightning_fewshot.boxes import xyxy_to_xywh
from lightning_fewshot.metrics.one_pass import paired_iou
from lightning_fewshot.shipped import FOLDER
from lightning_fewshot.tracking.adapters import PytrackingTracker
from lightning_fewshot.tracking.loop import track

FRAMES = 12


@pytest.fixture(scope="module")
def drawn():
    """A drawn video and the truth ``(T, 4)``, whose first box lies on whole pixels as in most benchmarks."""
    video = DrawnFrames(5, "test", 3, DrawnVideoSettings(n_frames=FRAMES))
    target, frames = DrawnTarget(video), as_frames(torch.stack(list(video)))  # drawn once
    truth = torch.stack([target.box(t) for t in range(FRAMES)]).float()
    truth[0] = truth[0].round()
    return frames, truth


@pytest.fixture(scope="module")
def tracker():
    return lf.load(FOLDER / "matching_drawn.ckpt").module.tracker()


@pytest.fixture(scope="module")
def tracked(tracker, drawn):
    frames, truth = drawn
    return track(tracker, frames, truth[0])


def first_infos(box_xywh, frame):
    """What ``Sequence.init_info()`` of pytracking holds for its sets: a box alone, or with a mask and object ids."""
    x, y, w, h = (int(v) for v in box_xywh)
    mask = np.zeros(frame.shape[1:], np.uint8)
    mask[y : y + h, x : x + w] = 1
    ids = {"object_ids": ["1"], "sequence_object_ids": ["1"]}
    return {
        "otb": {"init_bbox": [float(v) for v in box_xywh]},
        "youtubevos": {"init_bbox": [np.float64(v) for v in box_xywh], "init_mask": mask, **ids},
    }


def as_pytracking_does(adapter, frames, info):
    """Read images as RGB arrays, start, and hand the last output to each call, as ``Tracker._track_sequence``."""
    images = [frame.permute(1, 2, 0).numpy() for frame in frames]
    out = adapter.initialize(images[0], info) or {}
    start = {"target_bbox": info["init_bbox"], "object_presence_score": 1.0}
    rows, previous = [{**start, **out}], OrderedDict(out)
    for image in images[1:]:
        out = adapter.track(image, {"previous_output": previous})
        previous = OrderedDict(out)
        rows.append(out)
    return rows


@pytest.mark.parametrize("kind", ["otb", "youtubevos"])
def test_the_boxes_are_those_of_our_own_loop(tracker, tracked, drawn, kind):
    frames, truth = drawn
    info = first_infos(xyxy_to_xywh(truth[:1])[0].tolist(), frames[0])[kind]
    rows = as_pytracking_does(PytrackingTracker(tracker), frames, info)
    boxes = torch.tensor([[float(v) for v in row["target_bbox"]] for row in rows])
    assert torch.equal(boxes, xyxy_to_xywh(tracked.boxes))
    assert [row["object_presence_score"] for row in rows] == tracked.scores.tolist()
    assert all(isinstance(row["target_bbox"], list) for row in rows[1:]), "pytracking saves lists of numbers"


def test_a_video_that_the_shipped_tracker_follows(tracked, drawn):
    """Not the first box again and again, and not lost: else equal boxes would say little."""
    _, truth = drawn
    known = truth.isfinite().all(1)
    assert known.sum() > FRAMES // 2
    assert paired_iou(tracked.boxes.double(), truth.double())[known].mean() > 0.4
    assert (tracked.boxes[1:] - tracked.boxes[0]).abs().amax() > 10


def test_coordinates_that_count_from_one(tracker, tracked, drawn):
    frames, truth = drawn
    box = xyxy_to_xywh(truth[:1])[0] + torch.tensor([1.0, 1, 0, 0])
    rows = as_pytracking_does(PytrackingTracker(tracker, origin=1.0), frames, {"init_bbox": box.tolist()})
    expected = xyxy_to_xywh(tracked.boxes) + torch.tensor([1.0, 1, 0, 0])
    assert torch.equal(torch.tensor([row["target_bbox"] for row in rows]), expected)


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"init_bbox": None},
        {"init_mask": np.ones((256, 256), np.uint8)},
        {"init_bbox": OrderedDict({"1": [5.0, 6.0, 10.0, 8.0], "2": [50.0, 60.0, 10.0, 8.0]})},
        {"init_bbox": [5.0, 6.0, 10.0]},
    ],
    ids=["empty", "none", "mask", "several", "three"],
)
def test_what_is_no_box_of_one_object_is_named(tracker, info):
    with pytest.raises(ValueError, match="info must hold init_bbox, the box of one object: x, y, width, height"):
        PytrackingTracker(tracker).initialize(np.zeros((256, 256, 3), np.uint8), info)
