"""From scored boxes to the detections of a batch of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_fewshot.episodes import Detections
from lightning_fewshot.nn.nms import nms

SMALLEST_SCORE = 1e-6  # Soft-NMS drops what its decay has brought below


@dataclass(frozen=True)
class DetectionFilter:
    """Which scored boxes are reported.

    Args:
        nms: Non-maximum suppression within a class of an image: "nms" drops boxes, "soft_linear" lowers their scores.
        nms_iou: IoU above which it acts, in [0, 1].
        score_threshold: Scores must lie above it; in [0, 1).
        max_detections: Detections of an image at most.
        objectness: Exponent of the region proposals' objectness, by which all scores are multiplied; 0 leaves it out.

    Raises:
        ValueError: A number out of range.
    """

    nms: Literal["nms", "soft_linear"] = "soft_linear"
    nms_iou: float = 0.3
    score_threshold: float = 0.01
    max_detections: int = 100
    objectness: float = 0.0

    def __post_init__(self) -> None:
        if self.nms not in ("nms", "soft_linear"):
            raise ValueError(f"nms is {self.nms!r} but must be 'nms' or 'soft_linear'")
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"nms_iou is {self.nms_iou} but must be in [0, 1]")
        if not 0 <= self.score_threshold < 1:
            raise ValueError(f"score_threshold is {self.score_threshold} but must be at least 0 and below 1")
        if self.max_detections < 1:
            raise ValueError(f"max_detections is {self.max_detections} but must be at least 1")
        if self.objectness < 0:
            raise ValueError(f"objectness is {self.objectness} but must be at least 0")


def collect_detections(boxes: list[Tensor], scores: list[Tensor], limits: DetectionFilter) -> list[Detections]:
    """Keep the boxes that score well for a class and are not suppressed by another box of that class.

    Args:
        boxes: ``(R, 4)`` of each image; one box serves all classes.
        scores: ``(R, N)`` of each image, in [0, 1].
        limits: What is kept.

    Returns:
        One Detections an image, by falling score.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    >>> collect_detections([boxes], [torch.tensor([[0.9], [0.8]])], DetectionFilter(nms="nms"))[0].scores
    tensor([0.9000])
    """
    counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    image_of_row = torch.repeat_interleave(torch.arange(len(boxes), device=counts.device), counts)
    all_scores = torch.cat(scores)
    row, label = (all_scores > limits.score_threshold).nonzero(as_tuple=True)
    candidates, image = torch.cat(boxes)[row], image_of_row[row]
    kept, score = nms(
        boxes=candidates,
        scores=all_scores[row, label],
        labels=label,
        images=image,
        kind=limits.nms,
        iou_threshold=limits.nms_iou,
        score_threshold=max(limits.score_threshold, SMALLEST_SCORE),
    )
    image, label, candidates = image[kept], label[kept], candidates[kept]
    order = image.argsort(stable=True)  # by image, and by falling score within
    parts = torch.bincount(image, minlength=len(boxes)).tolist()
    rows = zip(*(part[order].split(parts) for part in (candidates, score, label)), strict=True)
    return [Detections(*(part[: limits.max_detections] for part in row)) for row in rows]
