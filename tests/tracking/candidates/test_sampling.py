"""Samples overlap their targets as they should, also where a target leaves or fills its frame."""

import pytest
import torch

from lightning_fewshot.boxes import iou
from lightning_fewshot.tracking.candidates.sampling import (
    gaussian_boxes,
    move_inside,
    negative_boxes,
    overlapping_boxes,
    positive_boxes,
    uniform_boxes,
)

FRAME = torch.tensor([[0.0, 0.0, 200.0, 100.0]])
TARGETS = {
    "inside": [60.0, 30.0, 90.0, 60.0],
    "leaves the frame": [185.0, 80.0, 225.0, 120.0],
    "centre outside": [205.0, 20.0, 245.0, 60.0],
    "fills the frame": [0.0, 0.0, 200.0, 100.0],
    "larger than the frame": [-400.0, -300.0, 500.0, 400.0],
    "thin": [50.0, 10.0, 54.0, 90.0],
}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", TARGETS)
def test_overlaps(name, generator):
    target = torch.tensor([TARGETS[name]])
    positives = positive_boxes(target, 40, generator)
    assert positives.shape == (1, 40, 4)
    assert (iou(positives, target[:, None]) >= 0.7 - 1e-6).all()
    for overlap in (0.5, 0.3):
        negatives = negative_boxes(target, 60, FRAME, generator, overlap=overlap)
        assert negatives.shape == (1, 60, 4)
        assert (iou(negatives, target[:, None]) <= overlap).all()
        assert (negatives[..., 2:] > negatives[..., :2]).all()
    for least, most in ((1.0, 2.0), (0.5, 2.0)):
        around = overlapping_boxes(target, 50, (least, most), generator)
        assert (iou(around, target[:, None]) >= 0.6 - 1e-6).all()
        areas = (around[..., 2:] - around[..., :2]).prod(-1) / (target[:, 2:] - target[:, :2]).prod(-1)
        assert ((areas >= least - 1e-4) & (areas <= most)).all()


def test_a_batch_is_its_targets_one_by_one(generator):
    targets = torch.tensor([TARGETS["inside"], TARGETS["thin"]])
    drawn = gaussian_boxes(targets, 500, 0.6, 1.05, generator)
    for i, target in enumerate(targets):
        centre, size = (target[:2] + target[2:]) / 2, target[2:] - target[:2]
        offset = (drawn[i, :, :2] + drawn[i, :, 2:]) / 2 - centre
        assert offset.abs().max() <= 0.6 * size.mean() + 1e-4
        assert offset.abs().max() > 0.5 * size.mean()
        ratio = (drawn[i, :, 2:] - drawn[i, :, :2]) / size
        torch.testing.assert_close(ratio[:, 0], ratio[:, 1], rtol=1e-3, atol=1e-3)
        assert ratio.min() >= 1 / 1.05 - 1e-4
        assert ratio.max() <= 1.05 + 1e-4


def test_uniform_boxes_stretch(generator):
    drawn = uniform_boxes(torch.tensor([TARGETS["inside"]]), 500, 1.0, 1.0, generator, aspect=1.1)
    ratio = (drawn[0, :, 2] - drawn[0, :, 0]) / (drawn[0, :, 3] - drawn[0, :, 1])
    assert 1.1 < ratio.max() <= 1.21 + 1e-4


def test_centres_stay_inside(generator):
    drawn = move_inside(gaussian_boxes(torch.tensor([TARGETS["leaves the frame"]]), 100, 3, 1.0, generator), FRAME)
    centre = (drawn[0, :, :2] + drawn[0, :, 2:]) / 2
    assert (centre >= FRAME[0, :2] - 1e-4).all()
    assert (centre <= FRAME[0, 2:] + 1e-4).all()


def test_equal_seeds_equal_samples():
    drawn = [negative_boxes(FRAME / 3, 9, FRAME, torch.Generator().manual_seed(4)) for _ in range(2)]
    torch.testing.assert_close(*drawn)
