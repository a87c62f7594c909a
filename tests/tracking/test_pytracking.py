"""The shape of pytracking, called as its evaluation calls it: the shipped tracker follows a drawn object through it."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

import lightning_fewshot as lf
from datamodules.world.appearance import class_seeds, make_class
from datamodules.world.motion import Motion
from datamodules.world.video import draw_video
from lightning_fewshot.boxes import iou, xyxy_to_xywh
from lightning_fewshot.shipped import FOLDER
from lightning_fewshot.tracking.adapters import PytrackingTracker
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.loop import track
from lightning_fewshot.tracking.tracker import IdentityTracker

FRAMES = 20


@pytest.fixture(scope="module")
def tracker():
    return lf.load(FOLDER / "matching_drawn.ckpt").module.running_tracker()


@pytest.fixture(scope="module")
def clip():
    target, other = (make_class(seed) for seed in class_seeds("test")[3:5])
    rng = np.random.default_rng(0)
    motion = Motion(period=(30.0, 40.0), leave_every=0, cover_every=0)
    return draw_video(rng, target, FRAMES, size=192, distractors=(other,), motion=motion).clip()


def evaluate(tracker, images, init_info):
    """Make the calls that pytracking's evaluation makes; return its output, a list for each key.

    A sequence's ``init_info`` goes to ``initialize``, what that leaves out is filled in, and every later frame gets
    a dictionary with the last output as ``previous_output``.
    """
    out = tracker.initialize(images[0], init_info) or {}
    output = {"target_bbox": [out.get("target_bbox", init_info["init_bbox"])], "time": [out["time"]]}
    output["object_presence_score"] = [out.get("object_presence_score", 1.0)]
    for image in images[1:]:
        out = tracker.track(image, {"previous_output": OrderedDict(out)})
        output["target_bbox"].append(out["target_bbox"])
        output["object_presence_score"].append(out["object_presence_score"])
    return output


def first_box(clip):
    """The first box in whole pixels, x, y, width, height."""
    return xyxy_to_xywh(torch.from_numpy(clip.boxes[0])).round()


def as_pytracking(box_xywh):
    """Return the ways in which pytracking's data sets hold a box."""
    return {
        "list": box_xywh.tolist(),
        "numbers of numpy": list(box_xywh.double().numpy()),
        "array": box_xywh.numpy(),
        "tuple": tuple(int(v) for v in box_xywh),
    }


@pytest.mark.parametrize("kind", ["list", "numbers of numpy", "array", "tuple"])
def test_the_boxes_are_those_of_our_own_loop(tracker, clip, kind):
    box_xywh = first_box(clip)
    info = {"init_bbox": as_pytracking(box_xywh)[kind], "init_object_ids": ["1"], "sequence_object_ids": ["1"]}
    x, y, width, height = box_xywh.tolist()
    expected = track(tracker, ArrayFrames(clip.images), torch.tensor([x, y, x + width, y + height]))
    output = evaluate(PytrackingTracker(tracker), clip.images, info)
    assert [list(map(float, box)) for box in output["target_bbox"]] == xyxy_to_xywh(expected.boxes).tolist()
    assert output["object_presence_score"] == expected.scores.tolist()


def test_it_follows_the_object(tracker, clip):
    """Boxes are x, y, width, height of the image as it was given: they lie on the truth, and a still box does not."""

    def overlap(which):
        output = evaluate(PytrackingTracker(which), clip.images, {"init_bbox": first_box(clip).tolist()})
        found = torch.tensor(output["target_bbox"])
        boxes = torch.cat([found[:, :2], found[:, :2] + found[:, 2:]], 1)
        return iou(boxes.float(), torch.from_numpy(clip.boxes)).diagonal()[1:].mean()

    assert clip.visible.all()
    assert overlap(tracker) > 0.5
    assert overlap(IdentityTracker()) < 0.2


def test_boxes_count_from_one_where_the_data_set_does(tracker, clip):
    from_zero, from_one = first_box(clip), first_box(clip) + torch.tensor([1.0, 1, 0, 0])
    outputs = [
        evaluate(PytrackingTracker(tracker, origin=origin), clip.images[:4], {"init_bbox": box.tolist()})
        for origin, box in ((0.0, from_zero), (1.0, from_one))
    ]
    zero, one = (np.array(output["target_bbox"]) for output in outputs)
    np.testing.assert_allclose(one - zero, np.tile([1, 1, 0, 0], (4, 1)), atol=1e-4)


def test_a_second_sequence_starts_afresh(tracker, clip):
    """Pytracking may call ``initialize`` again on one tracker; nothing of the first object is left."""
    info = {"init_bbox": first_box(clip).tolist()}
    again = PytrackingTracker(tracker)
    evaluate(again, clip.images[::-1], {"init_bbox": xyxy_to_xywh(torch.from_numpy(clip.boxes[-1])).tolist()})
    fresh = evaluate(PytrackingTracker(tracker), clip.images, info)
    assert evaluate(again, clip.images, info)["target_bbox"] == fresh["target_bbox"]


@pytest.mark.parametrize(
    "info", [{}, {"init_bbox": None}, {"init_bbox": OrderedDict({1: [5, 5, 9, 9], 2: [1, 1, 5, 5]})}]
)
def test_no_box_or_several_are_named(info):
    with pytest.raises(ValueError, match="init_bbox, the box of one object"):
        PytrackingTracker(IdentityTracker()).initialize(np.zeros((40, 60, 3), np.uint8), info)
