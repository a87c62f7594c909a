"""The loss of MLT, eq. (6), over the places of response maps. Shapes: B maps, (H, W) a response."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus


def target_map(cells: Tensor, size: int, radius: float = 0.0) -> Tensor:
    """Return y of section 3.2.1: +1 at the position of the target, -1 elsewhere.

    Args:
        cells: ``(B, 2)`` (x, y) of the target, in cells, with fractions.
        size: Cells of a side of the response.
        radius: Cells around the target that are +1 too; 0 is the nearest cell alone.

    Returns:
        ``(B, size, size)``. A target that lies beyond the response has +1 at the border's nearest cell.

    >>> target_map(torch.tensor([[1.2, 0.0]]), 3)[0].tolist()
    [[-1.0, 1.0, -1.0], [-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]]
    """
    place = cells.round().clamp(0, size - 1)
    line = torch.arange(size, device=cells.device, dtype=cells.dtype)
    x, y = (line - place[:, :1]).square(), (line - place[:, 1:]).square()  # (B, size) each
    near = y[:, :, None] + x[:, None, :] <= radius**2
    return near.to(cells.dtype) * 2 - 1


def match_loss(responses: Tensor, target: Tensor, balance: bool = False) -> Tensor:
    """Return eq. (6), ``mean_p log(1 + exp(-f[p] y[p]))``, averaged over maps.

    Args:
        responses: ``(B, H, W)``.
        target: ``(B, H, W)`` of +1 and -1.
        balance: Places of the target and others weigh one half each in every map; False is the paper's mean.

    >>> responses, target = torch.tensor([[[0.0, 2.0, 2.0]]]), torch.tensor([[[1.0, -1.0, -1.0]]])
    >>> [round(match_loss(responses, target, balance).item(), 4) for balance in (False, True)]
    [1.649, 1.41]
    """
    losses = softplus(-responses * target)  # eq. (6)
    if not balance:
        return losses.mean()
    weights = [part / part.sum((1, 2), keepdim=True).clamp(min=1) / 2 for part in (target > 0, target < 0)]
    return ((weights[0] + weights[1]) * losses).sum((1, 2)).mean()
