"""Labels, samples and losses of rois."""

import pytest
import torch

from lightning_fewshot.nn.rois import hardest, label_rois, roi_losses, sample_rois


def test_labels_follow_the_best_box():
    rois = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9], [20, 20, 30, 30]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 31]])
    labels, matched = label_rois(rois, boxes, torch.tensor([3, 1]))
    assert labels.tolist() == [4, 4, 0, 2]
    assert matched[3].tolist() == boxes[1].tolist()
    assert label_rois(rois, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))[0].tolist() == [0] * 4


def test_a_quarter_of_the_sample_is_foreground():
    labels = [torch.arange(100) % 2, torch.zeros(100, dtype=torch.long)]
    kept = sample_rois(labels, per_image=20)
    assert [int(k.sum()) for k in kept] == [20, 20]
    assert int(labels[0][kept[0]].sum()) == 5


def test_background_regresses_nothing():
    labels = torch.tensor([0, 2])
    _, regression = roi_losses(torch.zeros(2, 4), torch.ones(2, 4), labels, torch.zeros(2, 4))
    assert regression[0] == 0
    assert regression[1] == pytest.approx(4 * (1 - 0.5 / 9))


def test_hardest_are_the_highest():
    assert sorted(hardest(torch.tensor([0.1, 3.0, 2.0, 0.5]), 2).tolist()) == [1, 2]
    assert len(hardest(torch.tensor([0.1]), 5)) == 1
