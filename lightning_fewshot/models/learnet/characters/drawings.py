"""Images of any size and color mode as the drawings that the networks take: grey, 28 x 28, dark ink on light paper.

Converted as the data converts its files: luma of ITU-R BT.601, areas averaged (``cv2.INTER_AREA``).

Shapes: B images, S pixels of a drawing's side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

SIDE = 28  # pixels of an input (section 3.2)
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
PAPER = 127  # the mean grey level above which the ground of a drawing is light


def drawings(images: Tensor | list[Tensor], side: int | None = SIDE) -> Tensor:
    """Return images as drawings ``(B, 1, S, S)`` uint8.

    Args:
        images: ``(B, C, H, W)`` or a list of B ``(C, H, W)``, uint8, C 1 or 3 (RGB). What is not square gets margins
            of its own paper. Drawings of the right shape are returned as they are.
        side: S; None keeps a batch of grey squares of any side, and converts anything else to 28.

    Raises:
        ValueError: An image is not uint8, has another number of channels, or is light on dark.

    >>> drawings(torch.full((2, 3, 50, 40), 200, dtype=torch.uint8)).shape
    torch.Size([2, 1, 28, 28])
    """
    if isinstance(images, Tensor) and _are_drawings(images, side):
        return images
    return torch.stack([_drawing(image, side or SIDE) for image in images])


def ink(images: Tensor) -> Tensor:
    """Turn uint8 drawings of black ink on white paper into float32 in [0, 1], ink 1.

    >>> ink(torch.tensor([255, 0], dtype=torch.uint8)).tolist()
    [0.0, 1.0]
    """
    return 1 - images.float() / 255


def area_weights(size: int, side: int) -> Tensor:
    """Return the share ``(side, size)`` of every pixel in each of ``side`` equal parts of a line; rows have a sum of 1.

    >>> area_weights(3, 2).mul(3).tolist()
    [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    """
    edges = torch.arange(side + 1, dtype=torch.float64) * size / side
    pixels = torch.arange(size, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return overlap.clamp(min=0) * side / size


def _are_drawings(images: Tensor, side: int | None) -> bool:
    shape = (1, images.shape[-1], images.shape[-1]) if side is None else (1, side, side)
    return images.ndim == 4 and tuple(images.shape[1:]) == shape and images.dtype == torch.uint8


def _drawing(image: Tensor, side: int) -> Tensor:
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"an image is {tuple(image.shape)} but must be (1, H, W) or (3, H, W)")
    if image.dtype != torch.uint8:
        raise ValueError(f"images are {image.dtype} but must be uint8 in [0, 255]")
    if tuple(image.shape) == (1, side, side):
        return image
    grey = _grey(image)
    if grey.mean() <= PAPER:
        raise ValueError(
            f"an image is mostly dark (mean {grey.mean():.0f} of 255): dark ink on light paper is expected"
        )
    grey = _square(grey)
    weights = area_weights(len(grey), side).to(grey)
    return (weights @ grey @ weights.T).round().clamp(0, 255).to(torch.uint8)[None]


def _grey(image: Tensor) -> Tensor:
    """Return ``(H, W)`` float64 whole numbers in [0, 255]."""
    if len(image) == 1:
        return image[0].double()
    return torch.einsum("c,chw->hw", image.new_tensor(LUMA, dtype=torch.float64), image.double()).round()


def _square(grey: Tensor) -> Tensor:
    """Put margins of the median grey level, which is the paper's, left and right or above and below."""
    height, width = grey.shape
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return pad(grey, (left, side - width - left, top, side - height - top), value=float(grey.median()))
