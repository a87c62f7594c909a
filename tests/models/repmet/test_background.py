"""What counts as background, and heads that start from class means."""

import math

import numpy as np
import pytest
import torch
from tiny_detectors import detector
from torch.nn.functional import normalize

from lightning_fewshot.models.repmet import ExternalMetricDetector, PlainMetricDetector, loss
from lightning_fewshot.models.repmet.adaptation import MetricHead, imprinted
from lightning_fewshot.models.repmet.detector import SupportRegions
from lightning_fewshot.models.repmet.settings import FineTuning, Mixture


@pytest.fixture
def drawn():
    g = torch.Generator().manual_seed(0)
    return torch.rand(9, 4, 3, generator=g, dtype=torch.float64) * 4, torch.randint(0, 5, (9,), generator=g)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_the_margin_takes_either_distance_and_background(drawn, squared, background):
    distances, labels = drawn
    found = loss.embedding_loss(distances, labels, 0.5, squared=squared, background=background)
    apart = (distances if squared else distances.sqrt()).numpy().min(2)
    own = {r: apart[r, n - 1] for r, n in enumerate(labels.tolist()) if n}
    for r, n in enumerate(labels.tolist()):
        wrong = min(d for i, d in enumerate(apart[r]) if i != n - 1)
        right = own[r] if n else np.mean(list(own.values()))
        expected = max(right - wrong + 0.5, 0) if n or background else 0
        assert found[r].item() == pytest.approx(expected, abs=1e-6)


def test_no_object_at_all_leaves_a_finite_margin(drawn):
    found = loss.embedding_loss(drawn[0], torch.zeros(9, dtype=torch.int64), 0.5, background=True)
    assert torch.isfinite(found).all()


def test_the_authors_ranking_is_the_softmax_of_15_posteriors():
    modes = normalize(torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    mixture = Mixture(logits="scaled", logit_scale=15.0, ranking="softmax")
    head = MetricHead(torch.eye(6), torch.zeros(6), modes, None, mixture)
    features = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    posterior = head._replace(mixture=Mixture()).scores(features)
    expected = (15 * torch.cat([1 - posterior.amax(1, keepdim=True), posterior], 1)).softmax(1)[:, 1:]
    torch.testing.assert_close(head.scores(features), expected)


def test_what_may_be_an_unlabelled_object_is_no_background():
    box = torch.tensor([[0.0, 0, 10, 10]])
    proposals = torch.tensor([[0.0, 0, 10, 9], [5, 5, 15, 15], [50, 50, 60, 60], [80, 80, 90, 90]])
    objectness = torch.tensor([0.9, 0.9, 0.9, 0.1])  # right; near it; an object of nobody's; ground
    regions = SupportRegions(None, [proposals], [objectness], [box], [torch.tensor([0])])
    (rois,), labels = regions.certain(0.5)
    assert rois.tolist() == [*proposals[[0, 1, 3]].tolist(), *box.tolist()]
    assert labels.tolist() == [1, 0, 0, 1]
    assert len(regions.certain(1.0)[1]) == 5
    assert len(regions.labelled()[1]) == 5


def test_an_imprinted_head_names_the_nearest_mean():
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 16, generator=g) + 5
    labels = torch.arange(4).repeat(10)
    features = centres[labels] + 0.1 * torch.randn(40, 16, generator=g)
    head = imprinted(features, labels, 3)
    assert torch.equal((features @ head.weight.T + head.bias).argmax(1), labels)
    assert (features @ head.weight.T + head.bias).amax(1).mean().item() == pytest.approx(10, abs=0.5)
    empty = imprinted(features[labels > 0], labels[labels > 0], 3)  # no background at all
    assert torch.isfinite(empty.weight).all()


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match="margin_unit is 'cubic' but must be 'distance' or 'squared'"):
        Mixture(margin_unit="cubic")
    with pytest.raises(ValueError, match="ranking is 'best' but must be 'posterior' or 'softmax'"):
        Mixture(ranking="best")
    with pytest.raises(ValueError, match=r"unlabelled is 1\.5 but must lie between 0 and 1"):
        FineTuning(unlabelled=1.5)


def test_representatives_of_the_background_take_from_the_classes_and_add_to_eq_3():
    axes = torch.eye(4)
    head = MetricHead(axes, torch.zeros(4), axes[:2, None], None, Mixture(negatives=1), negatives=axes[2:3])
    plain = head._replace(negatives=None)
    rois = torch.stack([axes[0], axes[2], axes[0] + axes[2]])
    near = math.exp(-(2 - 2**0.5) / 0.5)  # squared distance of the third roi to both, eq. (1) with sigma 0.5
    far = math.exp(-2 / 0.5)
    expected = [[1 - far, (1 - far) * far], [0.0, 0.0], [(1 - near) * near, (1 - near) * far]]
    torch.testing.assert_close(head.scores(rois), torch.tensor(expected))
    assert plain.scores(rois)[2, 0] == pytest.approx(near, abs=1e-5)
    logits = head.logits(head.distances(rois)).exp() ** (1 / head.mixture.logit_scale)
    torch.testing.assert_close(logits[:, 0], torch.tensor([far, 1.0, 1 - (1 - near) * near]))


def test_a_detector_learns_its_negatives_and_adapts_with_them(scenes):
    module = detector(mixture=Mixture(negatives=3)).train()
    episode = scenes.episode("train", 0)
    sum(module.loss(episode).values()).backward()
    assert module.negatives.weight.grad.abs().sum() > 0
    assert any(p is module.negatives.weight for p in module.parameter_groups()[1]["params"])
    state = module.eval().adapt(scenes.episode("test", 0).support)
    assert torch.equal(state.negatives, module.negatives.weight[0])


@pytest.mark.parametrize("cls", [PlainMetricDetector, ExternalMetricDetector])
def test_a_method_that_learns_no_representatives_refuses_negatives(cls):
    with pytest.raises(ValueError, match=rf"negatives is 2 but {cls.__name__} learns no representatives"):
        detector(cls, mixture=Mixture(negatives=2))
