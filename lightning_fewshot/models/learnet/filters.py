"""What both rooms, characters and tracking, do with predicted filters: their first spread, and fixing them."""

from __future__ import annotations

from torch import Tensor, nn

FILTER_VARIATION = 0.5  # of the predicted filters' initial spread, the part that depends on z; the rest is common


def fixed_convolution(weight: Tensor, bias: Tensor, groups: int = 1) -> nn.Conv2d:
    """Return an ordinary convolution with copies of ``weight`` ``(K, C / groups, F, F)`` and ``bias`` ``(K,)``."""
    out, inputs, side = weight.shape[:3]
    static = nn.Conv2d(inputs * groups, out, side, groups=groups, device=weight.device)
    static.weight = nn.Parameter(weight.detach().clone())
    static.bias = nn.Parameter(bias.detach().clone())
    return static
