"""Regions of interest in training: their labels, which of them count, and their losses (Fast R-CNN, OHEM).

Shapes: R rois, M true boxes, N classes. Labels: 0 is background, class i is i + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import box_iou

FOREGROUND_IOU = 0.5  # Girshick, "Fast R-CNN", ICCV 2015, section 2.3
FOREGROUND_SHARE = 0.25  # the same
SMOOTH_L1_BETA = 1 / 9


def label_rois(rois: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Label the rois of one image by the true box of largest IoU, at least 0.5; return labels (0 background), boxes.

    >>> rois = torch.tensor([[0.0, 0.0, 9.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    >>> label_rois(rois, torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([4]))[0]
    tensor([5, 0])
    """
    if len(boxes) == 0:
        return torch.zeros(len(rois), dtype=torch.long, device=rois.device), rois
    best, index = box_iou(rois, boxes).max(dim=1)
    return torch.where(best >= FOREGROUND_IOU, labels[index] + 1, 0), boxes[index]


def sample_rois(labels: Sequence[Tensor], per_image: int) -> list[Tensor]:
    """Draw rois of every image, a quarter of them foreground; return which, ``(R,)`` bool an image."""
    positive, negative = BalancedPositiveNegativeSampler(per_image, FOREGROUND_SHARE)(list(labels))
    return [(p | n).bool() for p, n in zip(positive, negative, strict=True)]


def roi_losses(logits: Tensor, deltas: Tensor, labels: Tensor, target_deltas: Tensor) -> tuple[Tensor, Tensor]:
    """Return classification and box regression loss of each roi, ``(R,)`` both; background regresses nothing.

    Args:
        logits: ``(R, 1 + N)``, background first.
        deltas: ``(R, 4)``, class-agnostic.
        labels: ``(R,)`` in [0, N].
        target_deltas: ``(R, 4)``, encoded true boxes.
    """
    classification = cross_entropy(logits, labels, reduction="none")
    regression = smooth_l1_loss(deltas, target_deltas, beta=SMOOTH_L1_BETA, reduction="none").sum(dim=1)
    return classification, regression * (labels > 0)


def hardest(losses: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` highest losses: online hard example mining (Shrivastava et al., 2016)."""
    return losses.detach().topk(min(count, len(losses))).indices
