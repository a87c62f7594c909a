"""Logistic loss on congruous and incongruous pairs (Learnet, eq. 2 and section 3.2). Shapes: P pairs."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


def pair_loss(scores: Tensor, congruous: Tensor) -> Tensor:
    """Return the mean of ``log(1 + exp(-l s))`` with ``l = +1`` for a congruous pair and ``-1`` for any other.

    Args:
        scores: ``(P,)``; positive says "the same character".
        congruous: ``(P,)``, 1 for pairs of one class, 0 for others.

    >>> import torch
    >>> round(pair_loss(torch.tensor([0.0, 2.0]), torch.tensor([1, 0])).item(), 4)
    1.41
    """
    sign = 2.0 * congruous - 1.0  # (P,) the paper's l_i
    return softplus(-sign * scores).mean()
