"""Losses of MetaRTT: eq. (1) in the inner loop, eqs. (4) to (6) on the test set of a simulated episode.

Shapes: P clips (each with its own adapted head), N samples of each, A positive ones, M hard examples.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

POSITIVE, NEGATIVE = 0, 1  # [1, 0] is the positive label (section 3, "Objective")


def margin(logits: Tensor) -> Tensor:
    """Return the log odds ``(...)`` of being the target, from logits ``(..., 2)``.

    >>> margin(torch.tensor([3.0, 1.0])).item()
    2.0
    """
    return logits[..., POSITIVE] - logits[..., NEGATIVE]


def classification_loss(logits: Tensor, positives: int) -> Tensor:
    """Return the cross-entropy of each clip, eq. (1).

    Args:
        logits: ``(P, N, 2)``; the first samples are the positive ones.
        positives: Their number.

    Returns:
        ``(P,)``.

    >>> classification_loss(torch.tensor([[[0.0, 0.0], [0.0, 0.0]]]), 1).item() == torch.log(torch.tensor(2.0)).item()
    True
    """
    odds = margin(logits)
    return torch.cat((softplus(-odds[:, :positives]), softplus(odds[:, positives:])), dim=1).mean(1)


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
    return (first[:, :, None] - second[:, None]).square().sum(-1)


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
    hinge = (gap + near[:, :, :, None] - far[:, :, None, :]).clamp(min=0).mean(-1)  # (P, A, A)
    count = positives.shape[1]
    different = ~torch.eye(count, dtype=torch.bool, device=hinge.device)
    return (hinge * different).sum((1, 2)) / max(count * (count - 1), 1)


def test_loss(logits: Tensor, positives: int, hard: Tensor | None, weight: float, gap: float, printed: bool) -> Tensor:
    """Return eq. (4): cross-entropy on D_test^std plus ``weight`` (gamma) times the triplet loss.

    Args:
        logits: ``(P, N, 2)`` of D_test^std, the positive samples first.
        positives: Their number.
        hard: ``(P, M, 2)`` of D_test^hard; None: without hard examples there is no triplet.
        weight: gamma.
        gap: xi.
        printed: See :func:`triplet_loss`.

    Returns:
        ``(P,)``.
    """
    loss = classification_loss(logits, positives)
    if hard is None or weight == 0:
        return loss
    return loss + weight * triplet_loss(logits[:, :positives], hard, gap, printed)  # eq. (4)


test_loss.__test__ = False  # not one of pytest's


def instance_loss(logits: Tensor, own: Tensor) -> Tensor:
    """Return RT-MDNet's instance embedding loss: among the domains' targets, a positive sample is its own domain's.

    Args:
        logits: ``(P, A, D)``, score of each positive sample as the target of each of D domains.
        own: ``(P,)`` int64, the right domain.

    >>> instance_loss(torch.tensor([[[20.0, 0.0]]]), torch.tensor([0])).round(decimals=4).item()
    0.0
    """
    return cross_entropy(logits.flatten(0, 1), own.repeat_interleave(logits.shape[1]))
