"""Ridge regression against scikit-learn; codes of boxes."""

import pytest
import torch
from sklearn.linear_model import Ridge as Reference

from lightning_fewshot.tracking.candidates.regression import decode, encode, fit_regression, fit_ridge, regress


@pytest.mark.parametrize(("count", "width"), [(40, 7), (12, 50)])
def test_against_scikit_learn(count, width):
    x, y = torch.randn(count, width) + 3, torch.randn(count, 4)
    found, expected = fit_ridge(x, y, alpha=10.0), Reference(alpha=10.0).fit(x.numpy(), y.numpy())
    torch.testing.assert_close(found.weight.T.numpy(), expected.coef_, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.bias.numpy(), expected.intercept_, rtol=1e-3, atol=1e-4)


def test_decoding_inverts_encoding_for_moderate_changes():
    boxes = torch.rand(30, 4) * 10 + torch.tensor([0.0, 0.0, 30.0, 30.0])
    target = boxes + torch.rand(30, 4) * torch.tensor([1.0, 1.0, -1.0, -1.0])
    torch.testing.assert_close(decode(boxes, encode(boxes, target)), target, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("wanted", [[-1.0, 0, 11, 10], [3.0, 3, 6, 8], [4.0, 0, 14, 10], [0.0, 0, 30, 4]])
def test_boxes_that_would_grow_or_move_too_far_stay(wanted):
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    torch.testing.assert_close(decode(boxes, encode(boxes, torch.tensor([wanted]))), boxes)


def test_boxes_may_grow_where_smaller_samples_were_seen():
    boxes, wanted = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[-1.0, 0, 11, 10]])
    code = encode(boxes, wanted)
    torch.testing.assert_close(decode(boxes, code, (0.5, 2.0)), wanted)
    torch.testing.assert_close(decode(boxes, code, (0.9, 2.0)), boxes)


def test_the_penalty_does_not_depend_on_the_scale_of_features():
    target = torch.tensor([10.0, 10.0, 30.0, 40.0])
    boxes = target + 2 * torch.rand(200, 4) * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    features = torch.randn(200, 30)
    small, large = (fit_regression(f, boxes, target) for f in (features / 100, features * 100))
    torch.testing.assert_close(features / 100 @ small.weight, features * 100 @ large.weight)


def test_learns_to_move_boxes_onto_the_target():
    target = torch.tensor([10.0, 10.0, 30.0, 40.0])
    boxes = target + 2 * torch.rand(200, 4) * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    features = torch.cat((encode(boxes, target.expand(200, 4)), torch.randn(200, 3)), dim=1)
    moved = regress(fit_regression(features, boxes, target, alpha=1e-3), features, boxes)
    assert (moved - target).abs().max() < 0.2
