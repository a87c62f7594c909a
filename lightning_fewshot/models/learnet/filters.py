"""What both rooms, characters and tracking, do with predicted filters: their first spread, and fixing them."""

from __future__ import annotations

from torch import Tensor, nn

FILTER_VARIATION = 0.5  # of the predicted filters' initial spread, the part that depends on z; the rest is common


def fixed_convolution(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Return an ordinary convolution with copies of ``weight`` ``(K, C, F, F)`` and ``bias`` ``(K,)``."""
    static = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], device=weight.device)
    static.weight = nn.Parameter(weight.detach().clone())
    static.bias = nn.Parameter(bias.detach().clone())
    return static
