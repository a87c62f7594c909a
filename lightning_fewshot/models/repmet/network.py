"""The network of RepMet detection: FPN backbone, region proposals, RoI features, embedding, representatives.

RepMet (Karlinsky et al., CVPR 2019), sections 3 and 4.2, figure 4 (b). Plain PyTorch and torchvision.

Shapes: B images, R rois of all images together, F roi features, e embedding, N classes, K modes of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign

from lightning_fewshot.models.repmet.head import Representatives, embedding_layers
from lightning_fewshot.nn.backbones import PyramidBackbone

ASPECT_RATIOS = (0.5, 1.0, 2.0)


class Maps(NamedTuple):
    """Feature pyramid of a batch of images.

    Args:
        images: The padded batch, ``(B, 3, H, W)``, with the true size of every image.
        pyramid: Map l is ``(B, C, H / stride_l, W / stride_l)``.
        scale: By how much the images were enlarged before.
    """

    images: ImageList
    pyramid: dict[str, Tensor]
    scale: Tensor


class Proposals(NamedTuple):
    """Regions that may hold an object.

    Args:
        boxes: ``(P, 4)`` of every image, in pixels of the scaled images.
        objectness: ``(P,)`` of every image, their probability in [0, 1].
        losses: The region proposal network's, in training only.
    """

    boxes: list[Tensor]
    objectness: list[Tensor]
    losses: dict[str, Tensor]


class RepMetNetwork(nn.Module):
    """Everything that is learned. Class-dependent parameters are made by :meth:`set_classes`.

    Args:
        backbone: Feature pyramid.
        anchor_sizes: Side of the anchors of each map, in pixels.
        roi_size: Side of the pooled roi, in cells.
        widths: Widths of the fully connected layers of the embedding module.
        embedding: e, width of its last, linear layer.
        n_modes: K, representatives of a class.
        linear: Give the detector a linear softmax classifier (the plain detector of the baselines) in place of
            representatives.
        auxiliary: Give it a linear softmax classifier beside the representatives.
        external: Give it a second embedding module of the same widths (baseline-DML-external).
        proposals: Proposals of an image (in training, in evaluation) after non-maximum suppression.
        short_side: Enlarge or shrink images to this shorter side, in pixels; None takes them as they are.
    """

    def __init__(
        self,
        backbone: PyramidBackbone,
        anchor_sizes: Sequence[int],
        roi_size: int = 7,
        widths: Sequence[int] = (1024, 1024),
        embedding: int = 256,
        n_modes: int = 5,
        linear: bool = False,
        auxiliary: bool = False,
        external: bool = False,
        proposals: tuple[int, int] = (2000, 2000),
        short_side: int | None = None,
    ) -> None:
        super().__init__()
        channels = backbone.out_channels
        self.backbone, self.n_modes, self.short_side = backbone, n_modes, short_side
        self.rpn = _region_proposals(channels, anchor_sizes, proposals)
        self.pool = MultiScaleRoIAlign([str(i) for i in range(len(anchor_sizes))], roi_size, sampling_ratio=2)
        self.trunk = embedding_layers(channels * roi_size**2, widths)
        self.embed = None if linear else nn.Linear(widths[-1], embedding)
        self.regress = nn.Linear(widths[-1], 4)
        self.external_trunk = embedding_layers(channels * roi_size**2, widths) if external else None
        self.external_embed = nn.Linear(widths[-1], embedding) if external else None
        self.n_features, self.dim, self.linear, self.auxiliary = widths[-1], embedding, linear, auxiliary
        self.representatives: Representatives | None = None
        self.classify: nn.Linear | None = None

    @property
    def n_classes(self) -> int | None:
        """Training classes, or None before :meth:`set_classes`."""
        if self.linear:
            return None if self.classify is None else self.classify.out_features - 1
        return None if self.representatives is None else self.representatives.weight.shape[0]

    def set_classes(self, n_classes: int) -> None:
        """Make the parameters that depend on the number of training classes."""
        if self.linear or self.auxiliary:
            self.classify = nn.Linear(self.n_features, 1 + n_classes)
            nn.init.normal_(self.classify.weight, std=0.01)
        if not self.linear:
            self.representatives = Representatives(n_classes, self.n_modes, self.dim)

    def maps(self, images: Tensor | list[Tensor]) -> Maps:
        """Return the feature pyramid of uint8 images, ``(B, 3, H, W)`` or a list of ``(3, H, W)``."""
        batch, sizes, scale = _batch(images, self.short_side, self.regress.weight.device)
        return Maps(ImageList(batch, sizes), self.backbone(batch), scale)

    def propose(self, maps: Maps, boxes: list[Tensor] | None = None) -> Proposals:
        """Return proposals of every image, and in training the RPN's losses.

        Args:
            maps: Of B images.
            boxes: True boxes of each image, ``(M, 4)`` in pixels of the scaled images; needed in training.
        """
        targets = None if boxes is None else [{"boxes": b, "labels": b.new_ones(len(b)).long()} for b in boxes]
        proposals, losses = self.rpn(maps.images, maps.pyramid, targets)
        return Proposals([p.detach() for p in proposals], [o.detach() for o in self.rpn.objectness], losses)

    def pooled(self, maps: Maps, rois: list[Tensor]) -> Tensor:
        """Return pooled features of the rois of every image, ``(R, C * roi_size^2)``."""
        return self.pool(maps.pyramid, rois, maps.images.image_sizes).flatten(1)

    def embedded(self, features: Tensor) -> Tensor:
        """Return the embedding of ``(R, F)`` features, ``(R, e)`` of unit length."""
        return normalize(self.embed(features), dim=-1)


class ScoringRPN(RegionProposalNetwork):
    """Torchvision's region proposal network, which drops the objectness of what it proposes; here it is kept."""

    def filter_proposals(self, *args: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Return boxes and objectness of every image, as torchvision does."""
        boxes, self.objectness = super().filter_proposals(*args)
        return boxes, self.objectness


def _region_proposals(channels: int, anchor_sizes: Sequence[int], proposals: tuple[int, int]) -> ScoringRPN:
    """Return a class-agnostic RPN with one anchor size a map and three aspect ratios."""
    sizes = tuple((size,) for size in anchor_sizes)
    anchors = AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes))
    kept = {"training": proposals[0], "testing": proposals[1]}
    return ScoringRPN(
        anchors,
        RPNHead(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n=kept,
        post_nms_top_n=kept,
        nms_thresh=0.7,
    )


def _batch(
    images: Tensor | list[Tensor], short_side: int | None, device: torch.device, multiple: int = 32
) -> tuple[Tensor, list[tuple[int, int]], Tensor]:
    """Scale images and pad them to one size, a multiple of the coarsest stride; return sizes and scales too."""
    scales = [1.0 if short_side is None else short_side / min(image.shape[-2:]) for image in images]
    if isinstance(images, Tensor) and scales[0] == 1 and all(side % multiple == 0 for side in images.shape[-2:]):
        return images, [tuple(images.shape[-2:])] * len(images), torch.ones(len(images), device=device)
    scaled = [image if s == 1 else _resize(image, s) for image, s in zip(images, scales, strict=True)]
    sizes = [tuple(image.shape[-2:]) for image in scaled]
    height, width = (-(-max(side) // multiple) * multiple for side in zip(*sizes, strict=True))
    batch = torch.zeros(len(scaled), 3, height, width, dtype=scaled[0].dtype, device=scaled[0].device)
    for image, place in zip(scaled, batch, strict=True):
        place[:, : image.shape[-2], : image.shape[-1]] = image
    return batch, sizes, torch.tensor(scales, device=device)


def _resize(image: Tensor, scale: float) -> Tensor:
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return interpolate(image[None].float(), size, mode="bilinear", antialias=scale < 1)[0].round().to(image.dtype)
