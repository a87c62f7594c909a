"""A two-stage detector for images of one size as a static network: no loop over images, no suppression of boxes.

Shapes: (H, W) the image, P regions, N classes, F roi features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image, roi_align

from lightning_fewshot.nn.image_batch import batch_images
from lightning_fewshot.nn.roi_pooling import SAMPLES
from lightning_fewshot.nn.two_stage import TwoStageDetector

REGIONS = 300  # of all maps together


class StaticDetector(nn.Module):
    """One image ``(1, 3, H, W)`` uint8 to the boxes ``(P, 4)`` and scores ``(P, N)`` of its likeliest regions.

    Where the detector suppresses proposals that overlap, here the P regions of highest objectness are all kept, so that
    every shape is known before: boxes and scores are those that its head gives them. Suppress overlaps after.

    Args:
        network: The trained detector; it is used, not copied.
        score: Gives ``(P, N)`` scores of pooled rois and features, as the detector's own.
        size: (H, W).
    """

    def __init__(
        self, network: TwoStageDetector, score: Callable[[Tensor, Tensor], Tensor], size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.network = network
        self.score = score
        blank = torch.zeros(1, 3, *size, dtype=torch.uint8)
        options = (network.settings.short_side, network.settings.padding, torch.device("cpu"))
        batch, scale = batch_images(blank, *options)
        self.scaled = batch.image_sizes[0]
        self.padded = tuple(batch.tensors.shape[-2:])
        self.scale = float(scale[0])
        with torch.no_grad():
            maps = list(network.backbone(batch.tensors.to(network.regress.weight.device)).values())
            (anchors,) = network.rpn.anchor_generator(ImageList(batch.tensors, [self.padded]), maps)
        self.register_buffer("anchors", anchors)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes in pixels of the image, and scores."""
        pyramid = self.network.backbone(self._entered(images))
        rois = self._regions(list(pyramid.values()))
        pooled = self._pooled(pyramid, rois).flatten(1)
        features = self.network.head(pooled).float()
        boxes = self.network.coder.decode_single(self.network.regress(features), rois)
        return clip_boxes_to_image(boxes, self.scaled) / self.scale, self.score(pooled, features)

    def _entered(self, images: Tensor) -> Tensor:
        """Scale and pad as the detector does."""
        if self.scale != 1:
            images = interpolate(images.float(), self.scaled, mode="bilinear", antialias=self.scale < 1).round()
        bottom, right = (whole - part for whole, part in zip(self.padded, self.scaled, strict=True))
        return pad(images.float(), (0, right, 0, bottom))

    def _regions(self, maps: list[Tensor]) -> Tensor:
        objectness, deltas = concat_box_prediction_layers(*self.network.rpn.head(maps))
        best = objectness.flatten().topk(min(REGIONS, len(self.anchors))).indices
        boxes = self.network.rpn.box_coder.decode_single(deltas[best], self.anchors[best])
        return clip_boxes_to_image(boxes, self.scaled)

    def _pooled(self, pyramid: dict[str, Tensor], rois: Tensor) -> Tensor:
        """Pool each roi from every map, and take that of its size: Lin et al., eq. (1)."""
        pool, levels = self.network.pool, self.network.pool.level_of
        area = (rois[:, 2] - rois[:, 0]) * (rois[:, 3] - rois[:, 1])
        level = torch.floor(levels.lvl0 + torch.log2(area.sqrt() / levels.s0) + levels.eps)
        level = level.clamp(levels.k_min, levels.k_max) - levels.k_min  # (P,)
        rows = torch.cat([torch.zeros_like(rois[:, :1]), rois], 1)
        total = 0.0
        for i, (name, stride) in enumerate(zip(pool.names, pool.strides, strict=True)):
            part = roi_align(pyramid[name], rows, pool.size, 1 / stride, SAMPLES)
            total = total + part * (level == i)[:, None, None, None]
        return total
