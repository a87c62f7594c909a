"""The baselines against scikit-learn, and what fine-tuning must not change."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from lightning_fewshot.models.oslsm.finetuning import LabelledMaps, finetune
from lightning_fewshot.models.oslsm.logistic import logistic_regression, scikit_logistic_regression
from lightning_fewshot.models.oslsm.nearest import Neighbours, distances, neighbour_logits
from lightning_fewshot.models.oslsm.segmentation_branch import new_layers
from lightning_fewshot.models.oslsm.settings import NewLayers
from lightning_fewshot.models.oslsm.siamese import similarity, similarity_scale


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def fully_connected():
    return torch.nn.Sequential(*new_layers(512, NewLayers(12, 3), 16, 0.5), torch.nn.Dropout(0.5)).eval()


def clouds(n=60, width=8):
    objects = torch.rand(n) < 0.4
    return torch.randn(n, width) + objects[:, None] * 0.8, objects


@pytest.mark.parametrize("c", [0.1, 1.0, 10.0])
def test_logistic_regression_matches_scikit_learn(c):
    features, objects = clouds()
    weight, bias = logistic_regression(features, objects, c, max_iter=200, tolerance=1e-6)
    reference = LogisticRegression(C=c, tol=1e-8, max_iter=1000).fit(features.numpy(), objects.numpy())
    np.testing.assert_allclose(weight, reference.coef_[0], atol=2e-3)
    assert bias.item() == pytest.approx(reference.intercept_[0], abs=2e-3)


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear"])
def test_scikit_learns_solvers_find_what_ours_finds(solver):
    features, objects = clouds(200)
    ours, theirs = logistic_regression(features, objects), scikit_logistic_regression(features, objects, solver=solver)
    atol = 2e-3 if solver == "lbfgs" else 0.15  # liblinear regularises b too
    torch.testing.assert_close(theirs[0], ours[0], atol=atol, rtol=0)
    torch.testing.assert_close(theirs[1], ours[1], atol=10 * atol, rtol=0)
    full = scikit_logistic_regression(features, torch.ones_like(objects), solver=solver)
    assert (features @ full[0] + full[1] > 0).all()


def test_nearest_locations_match_scikit_learn():
    features, objects = clouds()
    query = torch.randn(8, 5, 6)
    state = Neighbours((features,), (objects,), torch.tensor([0]))
    reference = KNeighborsClassifier(1).fit(features.numpy(), objects.numpy())
    expected = reference.predict(query.flatten(1).T.numpy()).reshape(5, 6)
    np.testing.assert_array_equal(neighbour_logits(state, query)[0] > 0, expected)


def test_the_learned_similarity_is_a_weighted_l1_distance():
    a, b, parameters = torch.randn(4, 5), torch.randn(3, 5), torch.randn(6)
    scale = torch.log1p(parameters[:5].exp()) / 5**0.5
    expected = parameters[5] - (scale * (a[:, None] - b[None]).abs()).sum(2)
    torch.testing.assert_close(similarity(a, b, parameters), expected)
    state = Neighbours((b,), (torch.tensor([True, False, False]),), torch.tensor([0]))
    logits = neighbour_logits(state, a.T[:, :, None], similarity_scale(parameters))
    nearest = expected.argmax(1) == 0  # the most similar location gives the label
    assert torch.equal(logits[0, :, 0] > 0, nearest)


def test_a_support_that_the_object_fills_still_ranks_locations():
    state = Neighbours((torch.randn(6, 4),), (torch.ones(6, dtype=torch.bool),), torch.tensor([0]))
    assert neighbour_logits(state, torch.randn(4, 3, 3)).isfinite().all()


def test_finetuning_learns_the_support_and_leaves_the_network_as_it_is():
    top = fully_connected()
    before = {name: p.clone() for name, p in top.named_parameters()}
    maps = [torch.randn(512, 6, 6), torch.randn(512, 4, 5)]  # of different sizes
    objects = [torch.zeros(6, 6, dtype=torch.bool), torch.zeros(4, 5, dtype=torch.bool)]
    objects[0][1:4, 1:4] = objects[1][2:, 2:] = True
    classes = torch.tensor([0, 1])
    labelled = [(o, torch.ones_like(o)) for o in objects]
    state = finetune(top, LabelledMaps(maps, labelled, classes), steps=60, lr=3e-3)
    assert all(torch.equal(p, before[name]) for name, p in top.named_parameters())
    top.load_state_dict(dict(state.top))
    for i in range(2):
        logits = torch.einsum("d,dhw->hw", state.weight[i], top(maps[i][None])[0]) + state.bias[i]
        assert ((logits > 0) == objects[i]).float().mean() > 0.9


def test_finetuning_does_not_learn_unknown_locations():
    torch.manual_seed(0)
    top, maps, classes = fully_connected(), [torch.randn(512, 6, 6)], torch.tensor([0])
    objects, known = torch.zeros(6, 6, dtype=torch.bool), torch.ones(6, 6, dtype=torch.bool)
    objects[:3], known[:, 4:] = True, False
    flipped = objects ^ ~known
    counted, every = (objects, known), (flipped, known)
    fits = [finetune(top, LabelledMaps(maps, [pair], classes), steps=5, lr=3e-3).weight for pair in (counted, every)]
    torch.testing.assert_close(*fits)
    all_known = LabelledMaps(maps, [(flipped, torch.ones_like(known))], classes)
    assert not torch.allclose(fits[0], finetune(top, all_known, steps=5, lr=3e-3).weight)


def test_distances_by_a_matrix_product_are_those_of_the_differences():
    a, b = torch.randn(300, 64).relu(), torch.randn(200, 64).relu()
    expected = (a.double()[:, None] - b.double()[None]).square().sum(2).sqrt()
    torch.testing.assert_close(distances(a, b).double(), expected, atol=1e-4, rtol=1e-5)
