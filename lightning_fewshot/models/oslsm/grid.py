"""The grid between pixels and feature-map locations: the size that a network sees, masks on its map, maps on pixels.

Shapes: (H, W) pixels, (h, w) locations of a feature map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

from lightning_fewshot.episodes import VOID
from lightning_fewshot.models.oslsm.settings import MIN_SIDE, ImageSides


def network_size(size: Sequence[int], sides: ImageSides, stride: int) -> tuple[int, int]:
    """Return the (height, width) at which an image enters a branch.

    Args:
        size: (height, width) of the image in pixels.
        sides: What is asked of it.
        stride: Of the branch's feature map. With aligned corners a side that is kept becomes a multiple of it plus 1,
            the next above: the first and the last location then lie on the first and the last pixel.

    >>> [network_size(size, ImageSides(None, 1000), 32) for size in ((3000, 6000), (1, 1))]
    [(500, 1000), (32, 32)]
    >>> network_size((320, 321), ImageSides(align_corners=True), 16)
    (321, 321)
    """
    if sides.query_size is not None:
        return (sides.query_size, sides.query_size)
    scale = min(1.0, sides.max_side / max(size))
    kept = [max(MIN_SIDE, round(length * scale)) for length in size]
    if not sides.align_corners:
        return tuple(kept)
    return tuple(-(-(length - 1) // stride) * stride + 1 for length in kept)


def resized(images: Tensor | Sequence[Tensor], sides: ImageSides, stride: int) -> Tensor:
    """Scale images to ``network_size``, which must be the same for all; returns ``(B, 3, h, w)``."""
    parts = [images] if isinstance(images, Tensor) else [image[None] for image in images]
    (size,) = {network_size(part.shape[-2:], sides, stride) for part in parts}
    scaled = [
        part if tuple(part.shape[-2:]) == size else interpolate(part.float(), size, mode="bilinear", antialias=True)
        for part in parts
    ]
    return scaled[0] if len(scaled) == 1 else torch.cat(scaled)


def upsampled(maps: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Bring maps of locations to pixels, bilinearly.

    Args:
        maps: ``(B, C, h, w)``.
        size: (H, W).
        align_corners: The first and the last location lie on the first and the last pixel, as where a network pads both
            sides alike and an image has a multiple of its stride plus 1 pixels. False: each lies in the middle of its
            pixels, as after the poolings of a VGG.

    Returns:
        ``(B, C, H, W)``.
    """
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=align_corners)


def location_shares(parts: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Return how much of each location is covered, in [0, 1].

    Args:
        parts: ``(B, C, H, W)``, 1 where something is and 0 elsewhere.
        size: (h, w) of the map.
        align_corners: See ``upsampled``; such a location reaches half a stride to each side of its pixel.

    Returns:
        ``(B, C, h, w)``.
    """
    if not align_corners or 1 in size:
        return adaptive_avg_pool2d(parts, tuple(size))
    rates = [2 * max(1, math.ceil((a - 1) / (b - 1) / 2)) for a, b in zip(parts.shape[-2:], size, strict=True)]
    fine = upsampled(parts, [rate * (length - 1) + 1 for rate, length in zip(rates, size, strict=True)], align_corners)
    around = [rate + 1 for rate in rates], rates, [rate // 2 for rate in rates]  # no pixel is skipped
    return avg_pool2d(fine, *around, count_include_pad=False)


def location_labels(
    objects: Tensor, mask: Tensor, size: Sequence[int], align_corners: bool = False
) -> tuple[Tensor, Tensor]:
    """Label the locations of a feature map: an object's where it covers half of one.

    An object too small for any location gets the one that it covers most; no object has none.

    Args:
        objects: ``(H, W)`` bool.
        mask: ``(H, W)`` uint8, for its void pixels.
        size: (h, w).
        align_corners: See ``upsampled``.

    Returns:
        ``(h, w)`` bool, the object's locations, and ``(h, w)`` bool, those that are known: not mostly void.
    """
    share, void = location_shares(torch.stack([objects, mask == VOID])[None].float(), size, align_corners)[0]
    inside = (share >= 0.5) | ((share == share.max()) & (share > 0))
    return inside, (void < 0.5) | inside
