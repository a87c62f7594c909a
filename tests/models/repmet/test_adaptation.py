"""From support rois to heads."""

import pytest
import torch
from torch.nn.functional import normalize

from lightning_fewshot.models.repmet import adaptation
from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead
from lightning_fewshot.models.repmet.settings import FineTuning, Mixture

MIXTURE = Mixture(sigma=0.5, margin=0.5, logit_scale=15.0)


def head_of(modes, used=None):
    dim = modes.shape[-1]
    used = torch.ones(modes.shape[:2], dtype=torch.bool) if used is None else used
    return MetricHead(torch.eye(dim), torch.zeros(dim), modes, used, MIXTURE)


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


def test_representatives_are_sorted_into_slots():
    embedded = torch.arange(10.0).view(5, 2)
    modes, used = adaptation.gather_representatives(embedded, torch.tensor([1, 0, 1, 1, 0]), n_classes=3, n_slots=2)
    assert used.tolist() == [[True, True], [True, True], [False, False]]
    assert modes[1].tolist() == [[0, 1], [4, 5]]  # the third of class 1 is left out
    assert modes[0].tolist() == [[2, 3], [8, 9]]


def test_scores_are_highest_for_the_class_of_the_nearest_representative():
    modes = normalize(torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(1)), dim=-1)
    scores = head_of(modes).scores(modes[:, 0] * 3.0)
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
    before = [part.clone() for part in start if isinstance(part, torch.Tensor)]

    tuned = adaptation.finetune(start, features, labels, FineTuning(steps=100, lr=0.02))

    def accuracy(head):
        scores = head.scores(features[labels > 0])
        return (scores.argmax(1) + 1 == labels[labels > 0]).float().mean().item()

    assert accuracy(start) < 0.7
    assert accuracy(tuned) > 0.95
    after = [part for part in start if isinstance(part, torch.Tensor)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(part.requires_grad for part in tuned if isinstance(part, torch.Tensor))


def test_a_head_that_uses_all_slots_needs_no_mask():
    modes = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(3))
    features = torch.randn(20, 8, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(20) % 4
    masked, plain = head_of(modes), head_of(modes)._replace(used=None)
    assert torch.equal(masked.scores(features), plain.scores(features))
    assert torch.equal(masked.losses(features, labels), plain.losses(features, labels))
