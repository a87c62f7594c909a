"""Equations (4), (5) and (6) against plain loops."""

import math

import pytest
import torch

from lightning_fewshot.models.metartt.loss import test_loss, triplet_loss
from lightning_fewshot.models.metartt.settings import TestLoss
from lightning_fewshot.tracking.candidates.head import classification_loss


def _unit(f, printed):
    length = math.sqrt(f[0] ** 2 + f[1] ** 2)
    return [v / (length**2 if printed else length) for v in f]


@pytest.mark.parametrize("printed", [False, True])
def test_equations_5_and_6(printed):
    positives, hard, gap = torch.randn(2, 3, 2).double(), torch.randn(2, 4, 2).double(), 0.5
    for p in range(2):
        losses = []
        for i in range(3):
            for j in range(3):
                for k in range(4) if i != j else ():
                    x, near, far = (_unit(f.tolist(), printed) for f in (positives[p, i], positives[p, j], hard[p, k]))
                    to_near = sum((a - b) ** 2 for a, b in zip(x, near, strict=True))
                    to_far = sum((a - b) ** 2 for a, b in zip(x, far, strict=True))
                    losses.append(max(0.0, gap + to_near - to_far))
        found = triplet_loss(positives, hard, gap, printed)[p].item()
        assert found == pytest.approx(sum(losses) / len(losses), rel=1e-9)


def test_equation_4_adds_gamma_triplets_where_there_are_hard_examples():
    logits, hard = torch.randn(2, 6, 2), torch.randn(2, 5, 2)
    plain = classification_loss(logits, 3)
    torch.testing.assert_close(test_loss(logits, 3, None, TestLoss(2.0)), plain)
    torch.testing.assert_close(
        test_loss(logits, 3, hard, TestLoss(2.0)), plain + 2 * triplet_loss(logits[:, :3], hard, 0.5)
    )


def test_zero_outputs_have_finite_gradients():
    logits = torch.zeros(1, 3, 2, requires_grad=True)
    triplet_loss(logits, torch.zeros(1, 2, 2), 0.5).sum().backward()
    assert logits.grad.isfinite().all()
