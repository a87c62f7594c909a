"""From scored boxes to the detections of a batch of images."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_fewshot.episodes import Detections
from lightning_fewshot.nn.nms import NmsKind, nms


def collect_detections(
    boxes: list[Tensor],
    scores: list[Tensor],
    kind: NmsKind = "nms",
    iou_threshold: float = 0.3,
    score_threshold: float = 0.0,
    max_detections: int = 100,
) -> list[Detections]:
    """Keep the boxes that score well for a class and are not suppressed by another box of that class.

    Args:
        boxes: ``(R, 4)`` of each image; one box serves all classes.
        scores: ``(R, N)`` of each image, in [0, 1].
        kind: Non-maximum suppression within a class of an image.
        iou_threshold: Of that suppression.
        score_threshold: Scores must lie above it.
        max_detections: Of one image.

    Returns:
        One Detections an image, by falling score.
    """
    counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    image_of = torch.repeat_interleave(torch.arange(len(boxes), device=counts.device), counts)
    every = torch.cat(scores)
    row, label = (every > score_threshold).nonzero(as_tuple=True)
    candidates, image = torch.cat(boxes)[row], image_of[row]
    kept, score = nms(
        candidates, every[row, label], label, image, kind, iou_threshold, score_threshold=max(score_threshold, 1e-6)
    )
    image, label, candidates = image[kept], label[kept], candidates[kept]
    order = image.argsort(stable=True)  # by image, and by falling score within
    parts = torch.bincount(image, minlength=len(boxes)).tolist()
    rows = zip(*(part[order].split(parts) for part in (candidates, score, label)), strict=True)
    return [Detections(*(part[:max_detections] for part in row)) for row in rows]
