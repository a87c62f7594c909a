"""The losses against torch's own and against numpy."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from lightning_fewshot.models.oslsm.loss import base_loss, dice_loss, pixel_loss, verification_loss


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_the_pixel_loss_leaves_void_out_and_its_sum_is_the_mean_times_the_pixels():
    logits, target = torch.randn(2, 4, 4), torch.randint(2, (2, 4, 4), dtype=torch.uint8)
    target[0, :2] = 255
    known = target != 255
    expected = binary_cross_entropy_with_logits(logits[known], target[known].float())
    torch.testing.assert_close(pixel_loss(logits, target), expected)
    torch.testing.assert_close(pixel_loss(logits, target, "sum"), expected * known.sum() / 2)


def test_the_dice_loss_is_one_minus_twice_the_shared_over_both():
    logits, target = torch.randn(3, 8, 8) * 3, torch.randint(0, 2, (3, 8, 8), dtype=torch.uint8)
    target[1] = 0
    target[2, :4] = 255
    known, truth = (target != 255).numpy(), (target == 1).numpy().astype(float)
    p = 1 / (1 + np.exp(-logits.double().numpy())) * known
    expected = 1 - 2 * (p * truth).sum((1, 2)) / (p.sum((1, 2)) + truth.sum((1, 2)))
    assert dice_loss(logits, target).item() == pytest.approx(expected.mean(), abs=1e-6)
    assert dice_loss(torch.where(target == 1, 50.0, -50.0)[[0, 2]], target[[0, 2]]).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(logits, torch.full_like(target, 255)).isfinite()


def test_the_base_loss_is_a_cross_entropy_over_all_training_classes():
    logits, numbers = torch.randn(2, 6, 3, 3), torch.tensor([4, 1])  # the batch's classes among five
    masks = torch.tensor([0, 1, 2, 255, 2, 1, 0, 0, 2], dtype=torch.uint8).view(3, 3).expand(2, 3, 3)
    target = torch.tensor([0, 5, 2, -100, 2, 5, 0, 0, 2]).view(3, 3).expand(2, 3, 3)
    torch.testing.assert_close(base_loss(logits, masks, numbers), cross_entropy(logits, target))


def test_verification_weighs_both_kinds_of_pairs_equally():
    logits, same = torch.randn(40), torch.rand(40) < 0.2
    parts = [binary_cross_entropy_with_logits(logits[k], k[k].float() * v) for k, v in ((same, 1), (~same, 0))]
    torch.testing.assert_close(verification_loss(logits, same), sum(parts) / 2)
    assert verification_loss(logits, torch.ones(40, dtype=torch.bool)).isfinite()


def test_the_objects_pixels_may_weigh_more():
    logits, target = torch.randn(2, 4, 4), torch.randint(2, (2, 4, 4), dtype=torch.uint8)
    plain = binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    expected = (plain * (1 + 2 * target)).sum() / target.numel()
    torch.testing.assert_close(pixel_loss(logits, target, positive_weight=3.0), expected)
