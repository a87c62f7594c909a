"""RT-MDNet's instance embedding loss (section 3.3).

Shapes: P clips, A positive samples of each, D domains (videos).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy


def instance_loss(logits: Tensor, domain: Tensor) -> Tensor:
    """Return RT-MDNet's instance embedding loss: among the domains' targets, a positive sample is its domain's.

    Args:
        logits: ``(P, A, D)``, score of each positive sample as the target of each of D domains.
        domain: ``(P,)`` int64, the right domain.

    >>> import torch
    >>> instance_loss(torch.tensor([[[20.0, 0.0]]]), torch.tensor([0])).round(decimals=4).item()
    0.0
    """
    return cross_entropy(logits.flatten(0, 1), domain.repeat_interleave(logits.shape[1]))
