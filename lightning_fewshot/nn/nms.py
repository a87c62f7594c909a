"""Non-maximum suppression of one class in one image, for all classes and images of a batch at once.

Hard NMS is torchvision's. Soft-NMS (Bodla et al., "Soft-NMS - Improving Object Detection With One Line of Code", ICCV
2017) lowers the score of an overlapping box instead of dropping it. Its loop is sequential within a group (one class in
one image) and independent between groups, so all groups advance by one step together.

Shapes: M boxes of all groups, G groups, L boxes of the largest group, K boxes kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from lightning_fewshot.boxes import iou

NmsKind = Literal["nms", "soft_gaussian", "soft_linear"]
SIGMA = 0.5  # Bodla et al., section 5: Gaussian decay
IOU_THRESHOLD = 0.3  # Bodla et al., section 5: linear decay; and RepMet's hard NMS
SCORE_THRESHOLD = 0.001  # Bodla et al., their code: a box whose score has sunk below is dropped


def nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    images: Tensor,
    kind: NmsKind = "nms",
    iou_threshold: float = IOU_THRESHOLD,
    sigma: float = SIGMA,
    score_threshold: float = SCORE_THRESHOLD,
) -> tuple[Tensor, Tensor]:
    """Thin out detections, each class of each image on its own.

    Args:
        boxes: ``(M, 4)`` of a whole batch of images.
        scores: ``(M,)`` in [0, 1].
        labels: ``(M,)`` int64 >= 0.
        images: ``(M,)`` int64 >= 0, which image a box lies in.
        kind: Hard NMS, or the decay of Soft-NMS.
        iou_threshold: Of "nms" and "soft_linear".
        sigma: Of "soft_gaussian".
        score_threshold: Of the soft kinds.

    Returns:
        Indices ``(K,)`` of the boxes that stay, by falling score, and their scores ``(K,)``.

    Raises:
        ValueError: ``kind`` is not one of the three.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 8.0]])
    >>> args = boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0])
    >>> nms(*args)[0].tolist(), nms(*args, kind="soft_gaussian")[0].tolist()
    ([0, 2], [0, 2, 1])
    """
    if kind not in get_args(NmsKind):
        raise ValueError(f"kind is {kind!r}, expected one of {get_args(NmsKind)}")
    groups = images * (int(labels.max()) + 1 if len(labels) else 1) + labels
    if kind == "nms":
        keep = batched_nms(boxes, scores, groups, iou_threshold)
        return keep, scores[keep]
    return soft_nms(boxes, scores, groups, kind.removeprefix("soft_"), iou_threshold, sigma, score_threshold)


@torch.no_grad()
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor | None = None,
    method: Literal["gaussian", "linear"] = "gaussian",
    iou_threshold: float = IOU_THRESHOLD,
    sigma: float = SIGMA,
    score_threshold: float = SCORE_THRESHOLD,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS within each group; all groups take their steps in parallel.

    A step takes the best box that is left and multiplies the scores of the others in its group by
    ``exp(-iou^2 / sigma)`` (gaussian), or by ``1 - iou`` where ``iou >= iou_threshold`` (linear).

    Args:
        boxes: ``(M, 4)``.
        scores: ``(M,)``.
        groups: ``(M,)`` int64, equal for boxes that compete; None: all do.
        method: The decay.
        iou_threshold: Of the linear decay.
        sigma: Of the Gaussian decay.
        score_threshold: A box stays while its score is above this.

    Returns:
        Indices ``(K,)`` of the boxes that stay, by falling decayed score, and these scores ``(K,)``.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])
    >>> soft_nms(boxes, torch.tensor([0.9, 0.8]), method="linear")[1].round(decimals=3)
    tensor([0.9000, 0.4000])
    """
    if method not in ("gaussian", "linear"):
        raise ValueError(f"method is {method!r}, expected 'gaussian' or 'linear'")
    groups = torch.zeros_like(scores, dtype=torch.int64) if groups is None else groups
    index = _pad_groups(groups, scores)  # (G, L), -1 where a group has fewer boxes
    decay = partial(_decay, method=method, iou_threshold=iou_threshold, sigma=sigma)
    return _flatten(_final_scores(boxes, scores, index, decay, score_threshold), index)


def _final_scores(
    boxes: Tensor, scores: Tensor, index: Tensor, decay: Callable[[Tensor], Tensor], score_threshold: float
) -> Tensor:
    """Take the best box of every group, lower the others, and again; return final scores ``(G, L)``, -inf if dropped.

    Args:
        boxes: ``(M, 4)``.
        scores: ``(M,)``.
        index: ``(G, L)`` the boxes of each group, -1 where it has fewer.
        decay: Gives the factors of the scores from the IoU with the best box.
        score_threshold: A box stays while its score is above this.
    """
    left = index >= 0
    group_boxes = boxes[index.clamp(min=0)]
    live = scores[index.clamp(min=0)].masked_fill(~left, 0.0)  # decays from step to step
    final = torch.full_like(live, -torch.inf)
    for _ in range(index.shape[1]):
        best, at = live.masked_fill(~left, -torch.inf).max(dim=1, keepdim=True)
        stays = best > score_threshold
        if boxes.device.type == "cpu" and not stays.any():  # a GPU would have to be waited for at every step
            break
        final.scatter_(1, at, best.where(stays, final.gather(1, at)))
        left.scatter_(1, at, False)
        picked = group_boxes.take_along_dim(at[:, :, None], dim=1)  # (G, 1, 4)
        live = live * decay(iou(picked, group_boxes)[:, 0].to(live.dtype))
    return final


def _decay(overlap: Tensor, method: str, iou_threshold: float, sigma: float) -> Tensor:
    """Give the factor of a score, Bodla et al. section 3, the equations for s_i."""
    if method == "gaussian":
        return torch.exp(-(overlap**2) / sigma)
    return torch.where(overlap >= iou_threshold, 1 - overlap, 1.0)


def _pad_groups(groups: Tensor, scores: Tensor) -> Tensor:
    """List the members of each group, ``(G, L)`` by falling score, filled up with -1."""
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    _, row, counts = groups[order].unique_consecutive(return_inverse=True, return_counts=True)
    column = torch.arange(len(order), device=groups.device) - (counts.cumsum(0) - counts)[row]
    index = groups.new_full((len(counts), int(counts.max()) if len(counts) else 0), -1)
    index[row, column] = order
    return index


def _flatten(final: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Collect the boxes that have a final score, best first."""
    kept = final > -torch.inf
    scores, order = final[kept].sort(descending=True, stable=True)
    return index[kept][order], scores
