"""Logistic loss on pairs (Learnet, eq. 2, section 3.2), and a loss of whole problems.

Shapes: P pairs, A alphabets, N characters of each.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus


def pair_loss(scores: Tensor, congruous: Tensor) -> Tensor:
    """Return the mean of ``log(1 + exp(-l s))`` with ``l = +1`` for a congruous pair and ``-1`` for any other.

    Args:
        scores: ``(P,)``; positive says "the same character".
        congruous: ``(P,)``, 1 for pairs of one class, 0 for others.

    >>> round(pair_loss(torch.tensor([0.0, 2.0]), torch.tensor([1, 0])).item(), 4)
    1.41
    """
    sign = 2.0 * congruous - 1.0  # (P,) the paper's l_i
    return softplus(-sign * scores).mean()


def recognition_loss(scores: Tensor) -> Tensor:
    """Return the cross-entropy of finding an exemplar's input among N, and an input's exemplar; half of each.

    Not the paper's: its logistic loss sees one incongruous input of an exemplar, this one all of the alphabet's.

    Args:
        scores: ``(A, N, N)``: exemplar i and input j of one alphabet are of one character where i = j.

    >>> round(recognition_loss(torch.zeros(1, 20, 20)).exp().item(), 4)
    20.0
    """
    alphabets, n_way, _ = scores.shape
    match = torch.arange(n_way, device=scores.device).expand(alphabets, n_way)
    return (cross_entropy(scores, match) + cross_entropy(scores.transpose(1, 2), match)) / 2
