"""The average precision that RepMet's authors compute: one ranked list of all classes and all episodes.

The paper (Karlinsky et al., CVPR 2019, section 5.2, table 3) calls it mAP. It is not a mean over classes, and it is
milder than COCO's and PASCAL VOC's: see ``repmet_pooled_ap``. The rule was read from the authors' released code.

Shapes: as in ``detection_matching``; K items of the ranked list.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fewshot.metrics.detection_matching import Chunk, PooledBoxes, chunks, on_ignored
from lightning_fewshot.metrics.ranking import area, average_precision, count


class Ranked(NamedTuple):
    """A list of true and false positives, best first; of equal scores the false ones come first.

    Args:
        scores: ``(K,)``.
        is_true: ``(K,)`` bool.
        episodes: ``(K,)`` in [0, E).
    """

    scores: Tensor
    is_true: Tensor
    episodes: Tensor


def repmet_pooled_ap(pooled: PooledBoxes, weights: Tensor, iou_threshold: float = 0.5) -> Tensor:
    """Area under one precision-recall curve of all classes and all episodes.

    The rule, in one image, for the detections of one class c (IoU is without "+1", theirs is with it). A detection
    *covers* an object if their IoU is at or above the threshold, whatever the object's class.

    1. True positives: for each object of class c, the best score of the detections that cover it. Further detections of
       the same object count for nothing: **duplicates are not false positives**. One detection that covers two objects
       is a true positive for each.
    2. Wrong class: a detection that covers objects of other classes, and none of class c. Each such object gives one
       false positive, with the best score of these detections; duplicates count for nothing again.
    3. Background: a detection that covers **no object of any class** is a false positive. One on an ignored object of
       its class (a crowd, a difficult object; their benchmark has none) counts for nothing.

    Scores of 0 are left out. All items of all classes, images and episodes make one list, ranked by score; the result
    is the area under the envelope of precision over recall (every point, not 11), recall being relative to all objects.
    Items of equal score enter the curve together, so the order of episodes does not matter.

    Args:
        pooled: All images.
        weights: ``(R, E)`` float64, how often each episode counts.
        iou_threshold: In (0, 1].

    Returns:
        ``(R,)`` in [0, 1]; nan where there is no object.

    >>> from lightning_fewshot.metrics.detection_matching import pool
    >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    >>> twice = (box.repeat(2, 1), torch.tensor([0.9, 0.8]), torch.tensor([7, 7]))
    >>> repmet_pooled_ap(pool([twice], [(box, torch.tensor([7]))], [0]), torch.ones(1, 1).double()).item()
    1.0
    """
    ranked = repmet_ranking(pooled, iou_threshold)
    n_objects = count(pooled.episodes.repeat_interleave(pooled.target_counts), weights)
    return average_precision(ranked.is_true, ranked.episodes, n_objects, weights, area)


def repmet_ranking(pooled: PooledBoxes, iou_threshold: float = 0.5) -> Ranked:
    """List the true and false positives by the rule of ``repmet_pooled_ap``."""
    target_episodes = pooled.episodes.repeat_interleave(pooled.target_counts)
    episodes = pooled.episodes.repeat_interleave(pooled.counts)
    ignored = on_ignored(pooled, [iou_threshold])[0]
    parts = [Ranked(pooled.scores[:0], torch.zeros(0, dtype=torch.bool), episodes[:0])]
    for chunk in chunks(pooled):
        covers = chunk.overlap >= iou_threshold  # (B, D, G); padding has -1
        right = covers & chunk.same
        true_scores, objects = _true(pooled, chunk, right)
        wrong_scores, wrong_objects = _wrong_class(pooled, chunk, covers & ~right.any(-1, keepdim=True))
        lone = chunk.index[chunk.present & ~covers.any(-1) & ~ignored[chunk.index]]
        parts += [
            Ranked(true_scores, torch.ones_like(objects, dtype=torch.bool), target_episodes[objects]),
            Ranked(wrong_scores, torch.zeros_like(wrong_objects, dtype=torch.bool), target_episodes[wrong_objects]),
            Ranked(pooled.scores[lone], torch.zeros_like(lone, dtype=torch.bool), episodes[lone]),
        ]
    return _rank(Ranked(*(torch.cat(field) for field in zip(*parts, strict=True))))


def _true(pooled: PooledBoxes, chunk: Chunk, right: Tensor) -> tuple[Tensor, Tensor]:
    """Rule 1: the best score of each object that is covered by its own class, and the object."""
    scores = pooled.scores[chunk.index][..., None].masked_fill(~right, 0.0)  # (B, D, G)
    best = scores.amax(1)
    return best[best > 0], chunk.target_index[best > 0]


def _wrong_class(pooled: PooledBoxes, chunk: Chunk, wrong: Tensor) -> tuple[Tensor, Tensor]:
    """Rule 2: the best score for each pair (class of the detections, object of another class), and the object."""
    image, detection, obj = wrong.nonzero(as_tuple=True)
    index, objects = chunk.index[image, detection], chunk.target_index[image, obj]
    n_labels = int(pooled.labels.max()) + 1 if len(pooled.labels) else 1
    pairs, at = (objects * n_labels + pooled.labels[index]).unique(return_inverse=True)
    best = pooled.scores.new_zeros(len(pairs)).scatter_reduce(0, at, pooled.scores[index], "amax")
    return best, pairs // n_labels


def _rank(items: Ranked) -> Ranked:
    """Drop zero scores and sort; false before true among equals, so that the curve is read where a tie ends."""
    kept = (items.scores > 0).nonzero()[:, 0]
    kept = torch.cat((kept[~items.is_true[kept]], kept[items.is_true[kept]]))
    order = kept[items.scores[kept].argsort(descending=True, stable=True)]
    return Ranked(items.scores[order], items.is_true[order], items.episodes[order])
