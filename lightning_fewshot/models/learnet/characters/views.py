"""Small affine maps of a drawing, whose scores are averaged in evaluation. Not in the paper.

Shapes: B images, V views, S pixels of a drawing's side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class Views:
    """How inputs are varied in evaluation: always by the same maps, drawn once from uniform distributions.

    Args:
        count: V, maps beside the drawing as it is.
        rotate: Degrees, at most.
        scale: Share of the size, at most.
        shift: Pixels along each axis, at most.

    Raises:
        ValueError: A number is out of range.
    """

    count: int = 4
    rotate: float = 8.0
    scale: float = 0.1
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"views.count is {self.count} but must be at least 1")
        for name in ("rotate", "scale", "shift"):
            if getattr(self, name) < 0:
                raise ValueError(f"views.{name} is {getattr(self, name)} but must be at least 0")
        if self.scale >= 1:
            raise ValueError(f"views.scale is {self.scale} but must be below 1")

    def maps(self, side: int) -> Tensor:
        """Return the maps ``(V, 2, 3)`` for drawings of S pixels, as ``affine_grid`` takes them."""
        noise = 2 * torch.rand(self.count, 4, generator=torch.Generator().manual_seed(0)) - 1
        angle, size = noise[:, 0] * math.radians(self.rotate), 1 + self.scale * noise[:, 1]
        cosine, sine = size * angle.cos(), size * angle.sin()
        turned = torch.stack((torch.stack((cosine, -sine), 1), torch.stack((sine, cosine), 1)), 1)
        return torch.cat((turned, (2 * self.shift / side * noise[:, 2:])[..., None]), 2)

    def of(self, images: Tensor) -> list[Tensor]:
        """Return drawings ``(B, 1, S, S)`` uint8 as they are, then under every map."""
        return [images, *(moved(images, each) for each in self.maps(images.shape[-1]))]


def moved(images: Tensor, affine: Tensor) -> Tensor:
    """Return drawings ``(B, 1, S, S)`` uint8 under a map ``(2, 3)``; what comes from outside is white paper.

    >>> moved(torch.tensor([[[[0, 255], [255, 255]]]], dtype=torch.uint8), torch.tensor([[-1.0, 0, 0], [0, 1, 0]]))
    tensor([[[[255,   0],
              [255, 255]]]], dtype=torch.uint8)
    """
    grid = affine_grid(
        affine.to(images.device)[None].expand(len(images), 2, 3), list(images.shape), align_corners=False
    )
    ink = grid_sample(255 - images.float(), grid, align_corners=False)  # zero outside: no ink
    return (255 - ink).round().clamp(0, 255).to(torch.uint8)
