"""How training drawings are varied; small random affine maps, a batch at once.

Shapes: B images of S x S pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class AffineJitter:
    """How far a drawing may be moved; every value is drawn uniformly from ``[-x, x]``.

    Args:
        rotate: Degrees.
        shear: Tangent of the slant.
        scale: Logarithm of the factor along each axis; 0.1 is about 10 %.
        shift: Pixels along each axis.
    """

    rotate: float = 10.0
    shear: float = 0.15
    scale: float = 0.15
    shift: float = 2.0

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit < 0:
                raise ValueError(f"affine.{name} is {limit} but must be at least 0")


@dataclass(frozen=True)
class DrawingAugmentation:
    """How training drawings are varied.

    Args:
        quarter_turns: Train on alphabets turned by 90, 180 and 270 degrees too, as alphabets of their own.
        mirror: Train on the mirror images of all these too, likewise.
        affine: Small random affine maps of the training drawings; None leaves them as they are.
    """

    quarter_turns: bool = False
    mirror: bool = False
    affine: AffineJitter | None = None


def jitter(images: Tensor, limits: AffineJitter, rng: np.random.Generator) -> Tensor:
    """Map every image ``(B, 1, S, S)`` uint8 by an affine map of its own; what comes in from outside is white.

    >>> still = AffineJitter(0, 0, 0, 0)
    >>> images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    >>> torch.equal(jitter(images, still, np.random.default_rng(0)), images)
    True
    """
    drawn = torch.from_numpy(rng.uniform(-1, 1, (6, len(images)))).float()
    angle, shear = drawn[0] * math.radians(limits.rotate), drawn[1] * limits.shear
    wide, high = (drawn[2] * limits.scale).exp(), (drawn[3] * limits.scale).exp()
    right, down = drawn[4:] * limits.shift * 2 / images.shape[-1]  # grid_sample's units: the image is 2 wide
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * wide, (cos * shear - sin) * high, right, sin * wide, (sin * shear + cos) * high, down]
    maps = torch.stack(rows, 1).view(-1, 2, 3)
    inked = 255 - images.float()  # so that padding by 0 is paper
    grid = affine_grid(maps, list(images.shape), align_corners=False)
    return (255 - grid_sample(inked, grid, align_corners=False)).round().clamp(0, 255).to(torch.uint8)
