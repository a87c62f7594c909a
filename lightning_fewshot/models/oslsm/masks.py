"""Between pixels and cells: the size that a network sees, masks of support images, masks from logits.

Shapes: S shots, N classes, (H, W) pixels, (h, w) cells of a feature map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

from lightning_fewshot.episodes import VOID, Examples, Segmentation

MIN_SIDE = 32  # pixels; a smaller image is enlarged, so that every backbone has a cell
PIXELS_AT_ONCE = 2**24  # upsampled logits held together, 64 MiB: bounds the memory of images of any size


class Sides(NamedTuple):
    """How large images enter the segmentation branch.

    Args:
        fixed: Both sides in pixels, or None to keep an image's.
        longest: Where sides are kept, the longer one is at most this, in pixels; with ``stride``, less than one more.
        stride: Where sides are kept, each is a multiple of this plus 1, the next above (as the first and the last cell
            then lie on the first and the last pixel, see ``upsampled``); None: any.
    """

    fixed: int | None = None
    longest: int = 1024
    stride: int | None = None


OWN_SIDES = Sides()


def network_size(size: Sequence[int], sides: Sides) -> tuple[int, int]:
    """Return the (height, width) at which an image of ``size``, (height, width) in pixels, enters the branch.

    >>> [network_size(size, Sides(None, 1000)) for size in ((3000, 6000), (1, 1))], network_size((30, 60), Sides(500))
    ([(500, 1000), (32, 32)], (500, 500))
    >>> network_size((320, 321), Sides(stride=16))
    (321, 321)
    """
    if sides.fixed is not None:
        return (sides.fixed, sides.fixed)
    scale = min(1.0, sides.longest / max(size))
    whole = [max(MIN_SIDE, round(length * scale)) for length in size]
    if sides.stride is None:
        return tuple(whole)
    return tuple(-(-(length - 1) // sides.stride) * sides.stride + 1 for length in whole)


def resized(images: Tensor | Sequence[Tensor], sides: Sides) -> Tensor:
    """Scale images to ``network_size``, which must be the same for all; returns ``(B, 3, h, w)``."""
    parts = [images] if isinstance(images, Tensor) else [image[None] for image in images]
    (size,) = {network_size(part.shape[-2:], sides) for part in parts}
    scaled = [
        part if tuple(part.shape[-2:]) == size else interpolate(part.float(), size, mode="bilinear", antialias=True)
        for part in parts
    ]
    return scaled[0] if len(scaled) == 1 else torch.cat(scaled)


def stacked(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return images and masks of a training batch as tensors.

    Raises:
        ValueError: Sizes differ.
    """
    images, masks = examples.images, examples.class_masks
    shapes = sorted({tuple(image.shape[-2:]) for image in images})
    if len(shapes) > 1:
        raise ValueError(
            f"a training batch has images of {shapes[0]} and {shapes[1]} pixels (height, width): "
            "set data.image_size, or data.batch_size to 1"
        )
    return tuple(part if isinstance(part, Tensor) else torch.stack(list(part)) for part in (images, masks))


def support_objects(support: Examples, classes: Sequence[str] | None = None) -> list[Tensor]:
    """Return the object's pixels of every support image, ``(H, W)`` bool each.

    Args:
        support: Images with class masks and labels: image i is a shot of class ``labels[i]``.
        classes: Names of the classes, for the error.

    Raises:
        ValueError: There are no masks, a mask has another size than its image, or has no pixel of its class.
    """
    if support.class_masks is None or support.labels is None or len(support.images) == 0:
        raise ValueError("support needs at least one image, and a class mask and a label for each")
    objects = []
    for i, (image, mask, label) in enumerate(zip(support.images, support.class_masks, support.labels, strict=True)):
        name = f"support image {support.names[i] if support.names else i}"
        if mask.shape != image.shape[-2:]:
            sizes = f"mask has {tuple(mask.shape)} pixels (height, width) but the image {tuple(image.shape[-2:])}"
            raise ValueError(f"{name}: {sizes}")
        found = mask == int(label) + 1
        if not bool(found.any()):
            shown = repr(classes[int(label)]) if classes else int(label)
            raise ValueError(f"{name}: its mask has no pixel of class {shown}, of which it is a shot")
        objects.append(found)
    return objects


def upsampled(maps: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Bring maps of cells to pixels, bilinearly.

    Args:
        maps: ``(B, C, h, w)``.
        size: (H, W).
        align_corners: The first and the last cell lie on the first and the last pixel, as where a network pads both
            sides alike and an image has a multiple of its stride plus 1 pixels. False: each lies in the middle of its
            pixels, as after the poolings of a VGG.

    Returns:
        ``(B, C, H, W)``.
    """
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=align_corners)


def cell_shares(parts: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Return how much of each cell is covered, in [0, 1].

    Args:
        parts: ``(B, C, H, W)``, 1 where something is and 0 elsewhere.
        size: (h, w) of the cells.
        align_corners: See ``upsampled``; such a cell reaches half a stride to each side of its pixel.

    Returns:
        ``(B, C, h, w)``.
    """
    if not align_corners or 1 in size:
        return adaptive_avg_pool2d(parts, tuple(size))
    rates = [2 * max(1, math.ceil((a - 1) / (b - 1) / 2)) for a, b in zip(parts.shape[-2:], size, strict=True)]
    fine = upsampled(parts, [rate * (length - 1) + 1 for rate, length in zip(rates, size, strict=True)], align_corners)
    around = [rate + 1 for rate in rates], rates, [rate // 2 for rate in rates]  # no pixel is skipped
    return avg_pool2d(fine, *around, count_include_pad=False)


def cell_labels(
    objects: Tensor, mask: Tensor, size: Sequence[int], align_corners: bool = False
) -> tuple[Tensor, Tensor]:
    """Label the cells of a feature map: an object's where it covers half of the cell.

    An object too small for any cell gets the one that it covers most; no object has no cell.

    Args:
        objects: ``(H, W)`` bool.
        mask: ``(H, W)`` uint8, for its void pixels.
        size: (h, w).
        align_corners: See ``upsampled``.

    Returns:
        ``(h, w)`` bool, the object's cells, and ``(h, w)`` bool, cells that are known: not mostly void.
    """
    share, void = cell_shares(torch.stack([objects, mask == VOID])[None].float(), size, align_corners)[0]
    cells = (share >= 0.5) | ((share == share.max()) & (share > 0))
    return cells, (void < 0.5) | cells


def segment(
    logits: Tensor,
    classes: Tensor,
    asked: Sequence[int],
    size: Sequence[int],
    threshold: float = 0.5,
    align_corners: bool = False,
) -> Segmentation:
    """Turn the cells' logits of one image into masks: bilinear upsampling, threshold, logical OR over shots.

    A pixel belongs to a class if any of its shots says so (section 4.4), which is the maximum over shots. At most
    ``PIXELS_AT_ONCE`` upsampled logits (or one map) are held together.

    Args:
        logits: ``(S, h, w)``.
        classes: ``(S,)``, class of each.
        asked: N classes to give masks of, each with a shot at least.
        size: (H, W) of the masks.
        threshold: A pixel is the object's above this probability.
        align_corners: See ``upsampled``.

    Raises:
        ValueError: A class without a shot is asked for.
    """
    height, width = size
    at_once = max(1, PIXELS_AT_ONCE // (height * width))
    limit = torch.logit(torch.tensor(float(threshold))).item()
    masks = torch.empty(len(asked), height, width, dtype=torch.bool, device=logits.device)
    label_map = torch.zeros(height, width, dtype=torch.uint8, device=logits.device)
    best: Tensor | None = None
    for row, label in enumerate(asked):
        shots = logits[classes == label]
        if len(shots) == 0:
            raise ValueError(f"class {label} is asked for but has no shot; shots: {classes.unique().tolist()}")
        score = _upsampled_maximum(shots, (height, width), at_once, align_corners)
        masks[row] = score > limit
        better = masks[row] if best is None else masks[row] & (score > best)
        label_map[better] = label + 1
        best = score if best is None else torch.maximum(best, score)
    return Segmentation(masks, label_map)


def _upsampled_maximum(shots: Tensor, size: tuple[int, int], at_once: int, align_corners: bool) -> Tensor:
    """Return the maximum over shots of the upsampled logits, ``(H, W)``."""
    best = None
    for part in shots.split(at_once):
        highest = upsampled(part[None], size, align_corners)[0].amax(0)
        best = highest if best is None else torch.maximum(best, highest)
    return best
