"""From support rois to heads."""

import pytest
import torch
from torch.nn.functional import normalize

from lightning_fewshot.models.repmet import adaptation
from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead, MetricRule

RULE = MetricRule(sigma=0.5, margin=0.5, scale=15.0)


def head_of(modes, used=None):
    dim = modes.shape[-1]
    used = torch.ones(modes.shape[:2], dtype=torch.bool) if used is None else used
    return MetricHead(torch.eye(dim), torch.zeros(dim), modes, used)


def test_support_rois_are_the_best_proposals_above_the_threshold():
    box = torch.tensor([[0.0, 0, 100, 100]])
    proposals = torch.tensor([[0.0, 0, 100, 60], [0, 0, 100, 80], [0, 0, 100, 95], [200, 200, 300, 300]])  # .6 .8 .95 0
    rois, which = adaptation.support_rois(proposals, box, per_box=5)
    assert rois.tolist() == [[0, 0, 100, 95], [0, 0, 100, 80]]
    assert which.tolist() == [0, 0]
    assert len(adaptation.support_rois(proposals, box, per_box=1)[0]) == 1


def test_a_box_that_no_proposal_covers_stands_for_itself():
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 90, 90]])
    proposals = torch.tensor([[50.0, 50, 90, 90], [0, 0, 10, 6]])
    rois, which = adaptation.support_rois(proposals, boxes, per_box=3)
    assert which.tolist() == [0, 1]
    assert rois.tolist() == [[0, 0, 10, 10], [50, 50, 90, 90]]
    alone, _ = adaptation.support_rois(torch.zeros(0, 4), boxes, per_box=3)
    assert alone.tolist() == boxes.tolist()


def test_labels_follow_the_best_box():
    rois = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9], [20, 20, 30, 30]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 31]])
    labels, matched = adaptation.label_rois(rois, boxes, torch.tensor([3, 1]))
    assert labels.tolist() == [4, 4, 0, 2]
    assert matched[3].tolist() == boxes[1].tolist()
    assert adaptation.label_rois(rois, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))[0].tolist() == [0] * 4


def test_representatives_are_sorted_into_slots():
    embedded = torch.arange(10.0).view(5, 2)
    modes, used = adaptation.gather_representatives(embedded, torch.tensor([1, 0, 1, 1, 0]), n_classes=3, n_slots=2)
    assert used.tolist() == [[True, True], [True, True], [False, False]]
    assert modes[1].tolist() == [[0, 1], [4, 5]]  # the third of class 1 is left out
    assert modes[0].tolist() == [[2, 3], [8, 9]]


def test_scores_are_highest_for_the_class_of_the_nearest_representative():
    modes = normalize(torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    scores = adaptation.class_scores(head_of(modes), modes[:, 0] * 3.0, RULE)
    assert scores.argmax(1).tolist() == [0, 1, 2, 3]
    assert scores.diagonal().tolist() == pytest.approx([1.0] * 4, abs=1e-5)


@pytest.mark.parametrize("kind", ["metric", "linear"])
def test_finetuning_separates_an_episode_and_leaves_its_start_alone(kind):
    generator = torch.Generator().manual_seed(2)
    centres = normalize(torch.randn(4, 16, generator=generator), dim=-1)  # background and three classes
    labels = torch.arange(4).repeat(20)
    features = centres[labels] + 0.3 * torch.randn(80, 16, generator=generator)
    start = LinearHead(torch.zeros(4, 16), torch.zeros(4))
    if kind == "metric":
        start = head_of(torch.randn(3, 2, 16, generator=generator))
    before = [part.clone() for part in start]

    tuned = adaptation.finetune(start, features, labels, RULE, steps=100, lr=0.02)

    def accuracy(head):
        scores = adaptation.class_scores(head, features[labels > 0], RULE)
        return (scores.argmax(1) + 1 == labels[labels > 0]).float().mean().item()

    assert accuracy(start) < 0.7
    assert accuracy(tuned) > 0.95
    assert all(torch.equal(a, b) for a, b in zip(before, start, strict=True))
    assert not any(part.requires_grad for part in tuned)
