"""Tiles of pictures that both rooms, characters and tracking, draw with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

TILE, FRAME, GAP = 56, 4, 4  # pixels
SIDE = TILE + 2 * FRAME  # of a framed tile
SHOWN_FILTERS = 8  # of every exemplar


def stack(pictures: list[Tensor]) -> Tensor:
    """Put pictures ``(3, H, W)`` of different widths below each other."""
    width = max(p.shape[2] for p in pictures)
    return torch.cat([pad(p, (0, width - p.shape[2], 0, 2 * GAP), value=255) for p in pictures], 1)


def tile(image: Tensor, color: tuple[int, int, int] | None = None) -> Tensor:
    """Enlarge ``(1 or 3, H, W)`` uint8 to a framed tile ``(3, side, side)``."""
    big = interpolate(image.expand(3, -1, -1)[None].float(), (TILE, TILE), mode="nearest")[0].to(torch.uint8)
    framed = torch.tensor(color or (255, 255, 255), dtype=torch.uint8)[:, None, None].repeat(1, SIDE, SIDE)
    framed[:, FRAME:-FRAME, FRAME:-FRAME] = big
    return framed


def signed_tile(values: Tensor) -> Tensor:
    """Color ``(H, W)`` numbers: red for positive, blue for negative, white for zero."""
    part = values / values.abs().max().clamp(min=1e-12)
    rgb = torch.stack([1 + part.clamp(max=0), 1 - part.abs(), 1 - part.clamp(min=0)])
    return tile((255 * rgb).round().to(torch.uint8))
