"""A two-stage detector: feature pyramid, region proposals, RoI features, class-agnostic boxes.

Faster R-CNN (Ren et al., NIPS 2015) on a feature pyramid (Lin et al., CVPR 2017), with torchvision's parts. It leaves
open what classifies a roi: who uses it gives the logits of training and the scores of detection.

Shapes: B images, R rois of all images together, P proposals of one image, M true boxes of one image, C channels of the
pyramid, F roi features, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import clip_boxes_to_image

from lightning_fewshot.episodes import Detections
from lightning_fewshot.nn.backbones import Backbone, PyramidBackbone
from lightning_fewshot.nn.detections import DetectionFilter, collect_detections
from lightning_fewshot.nn.image_batch import batch_images
from lightning_fewshot.nn.roi_pooling import PyramidPool
from lightning_fewshot.nn.rois import hardest, label_rois, roi_losses, sample_rois
from lightning_fewshot.nn.two_stage_settings import Proposals, Pyramid, RoiHead
from lightning_fewshot.precision import full_precision
from lightning_fewshot.settings import BackboneSettings

ASPECT_RATIOS = (0.5, 1.0, 2.0)
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # scales of the box regression targets, as in Fast R-CNN
CANONICAL_LEVEL = 4  # Lin et al., eq. (1): a roi of the canonical scale is pooled from the map of stride 2^4


class Maps(NamedTuple):
    """Feature pyramid of a batch of images.

    Args:
        images: The padded batch, ``(B, 3, H, W)``, with the true size of every image.
        pyramid: Map l is ``(B, C, H / stride_l, W / stride_l)``.
        scale: ``(B,)``, by how much the images were enlarged before.
    """

    images: ImageList
    pyramid: dict[str, Tensor]
    scale: Tensor

    def scaled(self, boxes: Sequence[Tensor]) -> list[Tensor]:
        """Return boxes of the original images in pixels of the scaled ones."""
        return [b * s for b, s in zip(boxes, self.scale, strict=True)]


class Regions(NamedTuple):
    """Regions that may hold an object.

    Args:
        boxes: ``(P, 4)`` of every image, in pixels of the scaled images.
        objectness: ``(P,)`` of every image, their probability in [0, 1].
        losses: The region proposal network's, in training only.
    """

    boxes: list[Tensor]
    objectness: list[Tensor]
    losses: dict[str, Tensor]


class TrainingRois(NamedTuple):
    """Rois of a batch to train on.

    Args:
        features: ``(R, F)`` float32.
        labels: ``(R,)`` in [0, N], 0 is background.
        deltas: ``(R, 4)``, their true boxes relative to them.
        losses: The region proposal network's.
        n_images: B.
    """

    features: Tensor
    labels: Tensor
    deltas: Tensor
    losses: dict[str, Tensor]
    n_images: int


class TwoStageDetector(nn.Module):
    """Everything of a detector but the classification of its rois.

    Args:
        backbone: A timm model with feature maps.
        pyramid: Maps and anchors.
        proposals: Of the region proposal network.
        roi_head: What is computed from a roi.
        make_head: Makes the layers from a pooled roi to its features, of the number of inputs and ``roi_head.widths``.
    """

    def __init__(
        self,
        backbone: BackboneSettings,
        pyramid: Pyramid,
        proposals: Proposals,
        roi_head: RoiHead,
        make_head: Callable[[int, Sequence[int]], nn.Module],
    ) -> None:
        super().__init__()
        self.settings = pyramid
        self.roi_head = roi_head
        body = Backbone(backbone, pyramid.strides, pyramid.deformable)
        self.backbone = PyramidBackbone(body, pyramid.channels, pyramid.coarsest)
        self.rpn = _region_proposals(pyramid, proposals)
        self.pool = PyramidPool(pyramid.strides, roi_head.pool_size, roi_head.canonical_scale, CANONICAL_LEVEL)
        self.n_pooled = pyramid.channels * roi_head.pool_size**2
        self.head = make_head(self.n_pooled, roi_head.widths)
        self.n_features = roi_head.widths[-1]
        self.regress = nn.Linear(self.n_features, 4)
        self.coder = BoxCoder(BOX_WEIGHTS)

    def maps(self, images: Tensor | list[Tensor]) -> Maps:
        """Return the feature pyramid of uint8 images, ``(B, 3, H, W)`` or a list of ``(3, H, W)``."""
        device = self.regress.weight.device
        batch, scale = batch_images(images, self.settings.short_side, self.settings.padding, device)
        return Maps(batch, self.backbone(batch.tensors), scale)

    def propose(self, maps: Maps, boxes: list[Tensor] | None = None) -> Regions:
        """Return proposals of every image, and in training the RPN's losses.

        Args:
            maps: Of B images.
            boxes: True boxes of each image, ``(M, 4)`` in pixels of the scaled images; needed in training.
        """
        targets = None if boxes is None else [{"boxes": b, "labels": b.new_ones(len(b)).long()} for b in boxes]
        proposals, losses = self.rpn(maps.images, maps.pyramid, targets)
        return Regions([p.detach() for p in proposals], [o.detach() for o in self.rpn.objectness], losses)

    def pooled(self, maps: Maps, rois: list[Tensor]) -> Tensor:
        """Return pooled features of the rois of every image, ``(R, C * pool_size^2)``."""
        return self.pool(maps.pyramid, rois, maps.images.image_sizes).flatten(1)

    def features(self, maps: Maps, rois: list[Tensor]) -> Tensor:
        """Return the features of the rois of every image, ``(R, F)`` float32."""
        return self.head(self.pooled(maps, rois)).float()

    def training_rois(
        self, images: Tensor | list[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> TrainingRois:
        """Propose regions on labelled images and return those to train on; true boxes are among the proposals.

        Args:
            images: B images.
            boxes: ``(M, 4)`` of every image, in its own pixels.
            labels: ``(M,)`` of every image, in [0, N).
        """
        maps = self.maps(images)
        boxes = maps.scaled(boxes)
        regions = self.propose(maps, boxes)
        rois = [torch.cat([p, b]) for p, b in zip(regions.boxes, boxes, strict=True)]
        labelled = [label_rois(r, b, n) for r, b, n in zip(rois, boxes, labels, strict=True)]
        if not self.roi_head.ohem:
            kept = sample_rois([roi_labels for roi_labels, _ in labelled], self.roi_head.per_image)
            rois = [r[k] for r, k in zip(rois, kept, strict=True)]
            labelled = [(n[k], b[k]) for (n, b), k in zip(labelled, kept, strict=True)]
        roi_labels, matched = (torch.cat(part) for part in zip(*labelled, strict=True))
        return TrainingRois(
            features=self.features(maps, rois),
            labels=roi_labels,
            deltas=self.coder.encode_single(matched, torch.cat(rois)),
            losses=regions.losses,
            n_images=len(boxes),
        )

    def losses(self, rois: TrainingRois, logits: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return all losses of a detector by name, and the indices of the rois that they are the mean of.

        Args:
            rois: To train on.
            logits: ``(R, 1 + N)``, background first.
        """
        with full_precision(logits.device):
            classification, regression = roi_losses(logits, self.regress(rois.features), rois.labels, rois.deltas)
        kept = torch.arange(len(logits), device=logits.device)
        if self.roi_head.ohem:
            kept = hardest(classification + regression, self.roi_head.per_image * rois.n_images)
        return rois.losses | {"classification": classification[kept].mean(), "box": regression[kept].mean()}, kept

    def detect(
        self,
        images: Tensor | list[Tensor],
        score: Callable[[Tensor, Tensor], Tensor],
        limits: DetectionFilter,
    ) -> list[Detections]:
        """Return the detections of B images.

        Args:
            images: B images.
            score: Gives ``(R, N)`` scores in [0, 1], of pooled rois ``(R, C * pool_size^2)`` and features ``(R, F)``.
            limits: What is reported.
        """
        maps = self.maps(images)
        regions = self.propose(maps)
        counts = [len(p) for p in regions.boxes]
        pooled = self.pooled(maps, regions.boxes)
        features = self.head(pooled).float()
        scores = score(pooled, features) * torch.cat(regions.objectness)[:, None] ** limits.objectness
        boxes = self._refine(maps, regions.boxes, features)
        return collect_detections(boxes, list(scores.split(counts)), limits)

    def _refine(self, maps: Maps, proposals: list[Tensor], features: Tensor) -> list[Tensor]:
        """Regress the boxes of every image from its proposals, clipped, in pixels of the original images."""
        with full_precision(features.device):
            boxes = self.coder.decode_single(self.regress(features), torch.cat(proposals))
        parts = boxes.split([len(p) for p in proposals])
        sizes = maps.images.image_sizes
        return [clip_boxes_to_image(b, s) / f for b, s, f in zip(parts, sizes, maps.scale, strict=True)]


class ScoringRPN(RegionProposalNetwork):
    """Torchvision's region proposal network, which drops the objectness of what it proposes; here it is kept."""

    def filter_proposals(self, *args: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Return boxes and objectness of every image, as torchvision does."""
        boxes, self.objectness = super().filter_proposals(*args)
        return boxes, self.objectness


def _region_proposals(pyramid: Pyramid, proposals: Proposals) -> ScoringRPN:
    """Return a class-agnostic RPN with one anchor size a map and three aspect ratios."""
    sizes = tuple((size,) for size in pyramid.anchor_sizes)
    anchors = AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes))
    kept = {"training": proposals.train, "testing": proposals.test}
    return ScoringRPN(
        anchors,
        RPNHead(pyramid.channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n=kept if proposals.before_nms is None else dict.fromkeys(kept, proposals.before_nms),
        post_nms_top_n=kept,
        nms_thresh=proposals.nms_iou,
    )
