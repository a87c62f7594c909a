"""Images of different sizes as one batch: scaled to a shorter side, padded to a multiple of a stride."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.image_list import ImageList


def batch_images(
    images: Tensor | list[Tensor], short_side: int | None, multiple: int, device: torch.device
) -> tuple[ImageList, Tensor]:
    """Scale images and pad them to one size.

    Args:
        images: uint8, ``(B, 3, H, W)`` or a list of B ``(3, H, W)``.
        short_side: Shorter side after scaling, in pixels; None takes images as they are.
        multiple: Padded sides are multiples of this, in pixels.
        device: Of the returned scales.

    Returns:
        The padded batch with the true size of every image, and ``(B,)`` by how much each was enlarged.

    >>> batch, scales = batch_images([torch.zeros(3, 20, 40)], short_side=30, multiple=32, device=torch.device("cpu"))
    >>> tuple(batch.tensors.shape), batch.image_sizes, scales.tolist()
    ((1, 3, 32, 64), [(30, 60)], [1.5])
    """
    scales = [1.0 if short_side is None else short_side / min(image.shape[-2:]) for image in images]
    if isinstance(images, Tensor) and scales[0] == 1 and all(side % multiple == 0 for side in images.shape[-2:]):
        return ImageList(images, [tuple(images.shape[-2:])] * len(images)), torch.ones(len(images), device=device)
    scaled = [image if s == 1 else _resize(image, s) for image, s in zip(images, scales, strict=True)]
    sizes = [tuple(image.shape[-2:]) for image in scaled]
    height, width = (-(-max(side) // multiple) * multiple for side in zip(*sizes, strict=True))
    batch = torch.zeros(len(scaled), 3, height, width, dtype=scaled[0].dtype, device=scaled[0].device)
    for image, place in zip(scaled, batch, strict=True):
        place[:, : image.shape[-2], : image.shape[-1]] = image
    return ImageList(batch, sizes), torch.tensor(scales).to(device, non_blocking=True)


def _resize(image: Tensor, scale: float) -> Tensor:
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return interpolate(image[None].float(), size, mode="bilinear", antialias=scale < 1)[0].round().to(image.dtype)
