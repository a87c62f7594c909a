"""The loss on the test set of a simulated episode, eqs. (4) to (6); eq. (1) is ``classification_loss`` of the head.

Shapes: P clips (each with its own adapted head), N samples of each, A positive ones, M hard examples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_fewshot.models.metartt.settings import TestLoss
from lightning_fewshot.tracking.candidates.head import classification_loss


def normalise(logits: Tensor, printed: bool = False) -> Tensor:
    """Divide outputs ``(..., 2)`` by their length, as the text of eq. (6) says; by its square, as it is printed.

    >>> normalise(torch.tensor([0.0, 2.0])).tolist(), normalise(torch.tensor([0.0, 2.0]), printed=True).tolist()
    ([0.0, 1.0], [0.0, 0.5])
    """
    length = logits.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return logits / (length**2 if printed else length)


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Return squared distances of all pairs, eq. (6): ``(P, A, 2)`` and ``(P, M, 2)`` to ``(P, A, M)``.

    >>> distances(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])).tolist()
    [[[2.0, 0.0]]]
    """
    return (first[:, :, None] - second[:, None]).square().sum(-1)  # eq. (6)


def triplet_loss(positives: Tensor, hard: Tensor, gap: float, printed: bool = False) -> Tensor:
    """Return eq. (5), the mean over all triplets of two different positives and one hard example.

    Args:
        positives: ``(P, A, 2)`` logits of positive samples of D_test^std, A at least 2.
        hard: ``(P, M, 2)`` logits of D_test^hard.
        gap: The margin, xi.
        printed: Normalise by the squared length, as eq. (6) is printed.

    Returns:
        ``(P,)``.

    >>> same, other = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]]), torch.tensor([[[1.0, 1.0]]])
    >>> triplet_loss(same, other, gap=1.0)  # 1 + 0 - (2 - sqrt(2))
    tensor([0.4142])
    """
    positives, hard = normalise(positives, printed), normalise(hard, printed)
    near, far = distances(positives, positives), distances(positives, hard)
    hinge = (gap + near[:, :, :, None] - far[:, :, None, :]).clamp(min=0).mean(-1)  # eq. (5), (P, A, A)
    count = positives.shape[1]
    different = ~torch.eye(count, dtype=torch.bool, device=hinge.device)
    return (hinge * different).sum((1, 2)) / max(count * (count - 1), 1)


def test_loss(logits: Tensor, positives: int, hard: Tensor | None, settings: TestLoss) -> Tensor:
    """Return eq. (4): cross-entropy on D_test^std plus gamma times the triplet loss.

    Args:
        logits: ``(P, N, 2)`` of D_test^std, the positive samples first.
        positives: Their number.
        hard: ``(P, M, 2)`` of D_test^hard; None: without hard examples there is no triplet.
        settings: gamma, xi, and how outputs are normalised.

    Returns:
        ``(P,)``.
    """
    loss = classification_loss(logits, positives)  # eq. (1)
    if hard is None or settings.gamma == 0:
        return loss
    triplets = triplet_loss(logits[:, :positives], hard, settings.gap, settings.printed_distance)
    return loss + settings.gamma * triplets  # eq. (4)


test_loss.__test__ = False  # not one of pytest's
