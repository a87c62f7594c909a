"""The bench against numpy, with trackers whose answers are known."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from clips import as_frames, video

from datamodules.tracking.base import Target
from lightning_fewshot.models.learnet import SiameseLearnetTracker
from studies.tracking_bench import Clip, ReplacedFilters, judge, measures, predicted_filters, table


class State(NamedTuple):
    box: torch.Tensor
    found: bool = False


class Shifted:
    """Answers with the last box moved by a number of pixels, if it was told that the target was found."""

    def __init__(self, pixels):
        self.pixels = pixels

    def init(self, frame, box):
        return State(box)

    def update(self, state, frame):
        assert state.found
        return state, state.box + self.pixels, 0.0


@pytest.fixture
def clip():
    images, boxes = video(6, step=3.0)  # 24 pixels wide, moves by 3 a frame along both axes
    return Clip("square", Target(as_frames(images), boxes), (1, 3, 5))


def test_a_tracker_starts_at_the_true_previous_box(clip):
    assert judge(clip, Shifted(3.0)) == {"hit": 1.0, "iou": 1.0}


def test_identity_keeps_the_previous_box(clip):
    common = (24 - 3) ** 2
    assert judge(clip, None)["iou"] == pytest.approx(common / (2 * 24**2 - common), abs=1e-6)
    assert judge(clip, None)["hit"] == 1  # 4.2 pixels apart, within 6
    assert judge(clip, Shifted(-2.0))["hit"] == 0  # 7.1 pixels apart


def test_a_hit_is_within_a_quarter_of_the_side():
    truth = torch.tensor([[0.0, 0.0, 30.0, 10.0]]).expand(2, 4)  # mean side 20
    found = truth + torch.tensor([[4.9, 0.0, 4.9, 0.0], [5.1, 0.0, 5.1, 0.0]])
    assert measures(found, truth)["hit"].tolist() == [1, 0]


def test_differences_are_paired_by_sequence():
    values = np.array([[0.1, 0.9, 0.5, 0.3], [0.2, 1.0, 0.7, 0.4]])
    results = {n: {"hit": torch.tensor(v), "iou": torch.tensor(v)} for n, v in zip("ab", values, strict=True)}
    chosen = torch.tensor([True, True, True, False])
    row = table(results, chosen)[3]
    gain = (values[1] - values[0])[:3]
    half = 1.96 * gain.std(ddof=1) / 3**0.5
    assert f"| {gain.mean():.3f} ± {half:.3f} |" in row


def test_given_filters_take_the_place_of_predicted_ones(clip):
    torch.manual_seed(0)
    module = SiameseLearnetTracker(stream="S").eval()
    filters = predicted_filters(module, [clip])
    box = clip.target.box(0)
    with torch.no_grad():
        own = module.tracker().init(clip.target.frames[0], box).model
        same = ReplacedFilters(module, filters).init(clip.target.frames[0], box).model
        other = ReplacedFilters(module, filters + 0.5).init(clip.target.frames[0], box).model
    torch.testing.assert_close(same.template, own.template)
    assert not torch.allclose(other.template, own.template)
    assert torch.equal(other.filters, filters + 0.5)
