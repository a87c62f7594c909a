"""Prototypes: a support image as the mean feature of its object (Zhang et al., SG-One, 2018).

OSLSM's conditioning branch and PrototypeSegmenter pool with the same functions.

Shapes: S shots, D features, (H, W) pixels, (h, w) feature-map locations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_fewshot.models.oslsm.grid import location_shares


def pooling_weights(parts: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Return how much each location counts in the mean over a part of an image.

    It is the share of the location that the part covers, where that is half at least; of a part that covers half of no
    location, the one that it covers most counts.

    Args:
        parts: ``(S, P, H, W)``, 1 where a part is and 0 elsewhere.
        size: (h, w).
        align_corners: See ``grid.upsampled``.

    Returns:
        ``(S, P, h, w)``.
    """
    share = location_shares(parts, size, align_corners)
    return share * (share >= share.amax((2, 3), keepdim=True).clamp(max=0.5))


def prototypes(maps: Tensor, weights: Tensor, background: float) -> Tensor:
    """Return the mean feature over each object less ``background`` times that over its other locations.

    Args:
        maps: ``(S, D, h, w)``.
        weights: ``(S, 2, h, w)`` of object and background.
        background: Share in [0, 1].

    Returns:
        ``(S, D)``.

    >>> maps, weights = torch.tensor([[[[1.0, 3.0, 8.0]]]]), torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]])
    >>> prototypes(maps, weights, 0.5).tolist()
    [[-2.0]]
    """
    means = torch.einsum("schw,skhw->ksc", maps, weights) / weights.sum((2, 3)).clamp(min=1e-6).T[..., None]
    return means[0] - background * means[1]
