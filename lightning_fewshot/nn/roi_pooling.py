"""RoIAlign over a feature pyramid: torchvision's, or the same numbers by matrix products where maps are small.

Torchvision's backward pass adds up one cell at a time on one core, and is a quarter of a detector's training step on
small images. Every pooled cell is a weighted sum of the cells of a map; while these are few, all weights are one matrix
and pooling is one product of it with the maps of an image.

Shapes: B images, P rois of an image (filled up), R rois of all images, S side of a pooled roi, C channels, H W a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

SAMPLES = 2  # along each side of a pooled cell
SMALL = 1024  # cells of the finest map up to which the products are faster on a CPU


class PyramidPool(nn.Module):
    """Pool every roi from the map of its size (Lin et al., CVPR 2017, eq. (1)).

    Args:
        strides: Of the maps, in pixels, from fine to coarse.
        size: S.
        canonical_scale: Side of the rois that are pooled from the map of stride ``2 ** canonical_level``, in pixels.
        canonical_level: See there.
    """

    def __init__(self, strides: Sequence[int], size: int, canonical_scale: int, canonical_level: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.size = size
        settings = {"canonical_scale": canonical_scale, "canonical_level": canonical_level}
        levels = [stride.bit_length() - 1 for stride in self.strides]
        self.level_of = LevelMapper(levels[0], levels[-1], **settings)
        # Never from a coarser map that the pyramid may have besides: Lin et al., section 4.2.
        self.names = [str(i) for i in range(len(self.strides))]
        self.align = MultiScaleRoIAlign(self.names, output_size=size, sampling_ratio=SAMPLES, **settings)

    def forward(self, pyramid: dict[str, Tensor], rois: list[Tensor], image_sizes: list[tuple[int, int]]) -> Tensor:
        """Return the pooled rois of all images, ``(R, C, S, S)``.

        Args:
            pyramid: Maps by name, ``(B, C, H, W)``.
            rois: ``(P, 4)`` of every image, in pixels.
            image_sizes: Height and width of every image.
        """
        finest = pyramid[self.names[0]]
        if finest.device.type != "cpu" or finest[0, 0].numel() > SMALL:
            return self.align(pyramid, rois, image_sizes)
        return self.by_products([pyramid[name] for name in self.names], rois)

    def by_products(self, maps: list[Tensor], rois: list[Tensor]) -> Tensor:
        """Pool by one matrix product an image and map."""
        counts = torch.tensor([len(r) for r in rois])
        padded = pad_sequence(rois, batch_first=True)  # (B, P, 4)
        levels = pad_sequence(self.level_of(rois).split(counts.tolist()), batch_first=True)  # (B, P)
        pooled = sum(
            (_weights(padded, levels == level, self.size, stride, m.shape[2:]).to(m) @ m.flatten(2).transpose(1, 2))
            for level, (stride, m) in enumerate(zip(self.strides, maps, strict=True))
        )  # (B, P * S * S, C)
        pooled = pooled.unflatten(1, (-1, self.size, self.size)).permute(0, 1, 4, 2, 3)
        return pooled[torch.arange(padded.shape[1]) < counts[:, None]]


@torch.no_grad()
def _weights(rois: Tensor, used: Tensor, size: int, stride: int, cells: torch.Size) -> Tensor:
    """Return the weight of every cell of a map in every pooled cell, ``(B, P * S * S, H * W)``; 0 for unused rois."""
    x = _axis_weights(rois[..., 0] / stride, rois[..., 2] / stride, size, cells[1]) * used[..., None, None]
    y = _axis_weights(rois[..., 1] / stride, rois[..., 3] / stride, size, cells[0])
    return (y[:, :, :, None, :, None] * x[:, :, None, :, None, :]).flatten(4).flatten(1, 3)


def _axis_weights(start: Tensor, end: Tensor, size: int, n_cells: int) -> Tensor:
    """Return the weight of every cell of one axis in every pooled cell, ``(B, P, S, cells)``, as RoIAlign has them."""
    step = (end - start).clamp(min=1) / (SAMPLES * size)
    points = start[..., None] + step[..., None] * (torch.arange(SAMPLES * size) + 0.5)
    inside = (points >= -1) & (points <= n_cells)
    away = points.clamp(0, n_cells - 1)[..., None] - torch.arange(n_cells)
    hats = (1 - away.abs()).clamp(min=0) * inside[..., None]
    return hats.unflatten(2, (size, SAMPLES)).mean(dim=3)
