"""Logistic loss on pairs (Learnet, eq. 2, section 3.2) and over locations (section 3.3). Shapes: P pairs, B maps."""

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


def response_loss(responses: Tensor, target: Tensor, balance: bool = True) -> Tensor:
    """Accumulate the logistic loss over the locations of response maps (section 3.3).

    Args:
        responses: ``(B, H, W)``.
        target: ``(B, H, W)`` in [0, 1]: 1 where a subwindow shows the exemplar's object, 0 elsewhere. What lies
            between is the share of the cell that does.
        balance: Locations that match and the others weigh one half each, in every map. Else every location weighs the
            same, and the few that match 1 in 72.

    Returns:
        The mean over maps.

    >>> import torch
    >>> responses, target = torch.tensor([[[0.0, 2.0, 2.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    >>> [round(response_loss(responses, target, balance).item(), 4) for balance in (True, False)]
    [1.41, 1.649]
    """
    matching, other = target * softplus(-responses), (1 - target) * softplus(responses)
    if not balance:
        return (matching + other).mean()
    halves = [
        part.sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-6)
        for part, weight in ((matching, target), (other, 1 - target))
    ]
    return (halves[0] + halves[1]).mean() / 2
