"""Masks of support and query images: the object of each shot, the truth of each pair.

Shapes: S shots, (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_fewshot.episodes import VOID, Examples


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
            "set data.images.size, or data.batch_size to 1"
        )
    return tuple(part if isinstance(part, Tensor) else torch.stack(list(part)) for part in (images, masks))


def support_objects(support: Examples, classes: Sequence[str] | None = None, check: bool = True) -> list[Tensor]:
    """Return the object's pixels of every support image, ``(H, W)`` bool each.

    Args:
        support: Images with class masks and labels: image i is a shot of class ``labels[i]``.
        classes: Names of the classes, for the error.
        check: Whether to look for masks without a pixel, which waits for a GPU.

    Raises:
        ValueError: There are no masks, a mask has another size than its image, or has no pixel of its class.
    """
    if support.class_masks is None or support.labels is None or len(support.images) == 0:
        raise ValueError("support needs at least one image, and a class mask and a label for each")
    names = [f"support image {name}" for name in support.names or range(len(support.images))]
    for name, image, mask in zip(names, support.images, support.class_masks, strict=True):
        if mask.shape != image.shape[-2:]:
            sizes = f"mask has {tuple(mask.shape)} pixels (height, width) but the image {tuple(image.shape[-2:])}"
            raise ValueError(f"{name}: {sizes}")
    objects = [mask == label + 1 for mask, label in zip(support.class_masks, support.labels, strict=True)]
    if check and not (seen := torch.stack([pixels.any() for pixels in objects])).all():  # one look for all
        i = seen.tolist().index(False)
        label = int(support.labels[i])
        shown = repr(classes[label]) if classes else label
        raise ValueError(f"{names[i]}: its mask has no pixel of class {shown}, of which it is a shot")
    return objects


def pair_index(support: Examples) -> Tensor:
    """Return the query image that each shot of a training batch belongs to, ``(S,)``.

    Raises:
        ValueError: The support does not say.
    """
    if support.query_index is None:
        raise ValueError("training needs support.query_index: the query image that each shot belongs to")
    return support.query_index


def label_targets(masks: Tensor, labels: Tensor) -> Tensor:
    """Return which pixels are the labelled class's: 1, 0, or void, uint8 as ``(..., H, W)`` of both.

    >>> label_targets(torch.tensor([[[0, 1, 2, 255]]], dtype=torch.uint8), torch.tensor([1])).tolist()
    [[[0, 0, 1, 255]]]
    """
    return (masks == labels[..., None, None] + 1).to(torch.uint8).masked_fill(masks == VOID, VOID)
