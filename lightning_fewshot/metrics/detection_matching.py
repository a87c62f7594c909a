"""Which detection finds which object, for all images of all episodes at once.

Everything that depends on IoU happens here, once; the metrics and their bootstrap only rank and count. Images are
padded to equal numbers of boxes, a chunk of images at a time, and the greedy matching of COCO walks down the ranks of
all images of a chunk, and all IoU thresholds, in parallel.

Shapes: E episodes, I images, N detections of all images, M objects (truth) of all images, T IoU thresholds,
D and G detections and objects of the fullest image of a chunk of B images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fewshot.boxes import iou
from lightning_fewshot.episodes import Ignored

CHUNK = 2_000_000  # pairs of boxes in memory together: 16 MB for each float64 tensor
MAX_DETECTIONS = 100  # COCO's maxDets, of one class in one image
EXACT = 1 - 1e-10  # COCO: a threshold of 1 is lowered by this, so that equal boxes match


class PooledBoxes(NamedTuple):
    """Detections and truth of many images, without padding.

    Args:
        boxes: ``(N, 4)`` of the detections, images one after the other, by falling score within an image.
        scores: ``(N,)``.
        labels: ``(N,)`` int64, classes of the whole split.
        counts: ``(I,)`` int64, detections of each image.
        target_boxes: ``(M, 4)`` of the objects, images in the same order.
        target_labels: ``(M,)`` int64.
        target_counts: ``(I,)`` int64, objects of each image.
        episodes: ``(I,)`` int64 in [0, E), which episode an image belongs to.
        ignored_boxes: ``(K, 4)`` of the objects that are neither to be found nor wrong, images in the same order.
        ignored_labels: ``(K,)`` int64.
        ignored_crowd: ``(K,)`` bool, a region with many objects.
        ignored_counts: ``(I,)`` int64, ignored objects of each image.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    counts: Tensor
    target_boxes: Tensor
    target_labels: Tensor
    target_counts: Tensor
    episodes: Tensor
    ignored_boxes: Tensor
    ignored_labels: Tensor
    ignored_crowd: Tensor
    ignored_counts: Tensor


class Matches(NamedTuple):
    """What the matching found.

    Args:
        scores: ``(N,)``.
        labels: ``(N,)``.
        ranks: ``(N,)`` of a detection in its image, from 0, all classes together.
        within_limit: ``(N,)`` bool, among the ``max_detections`` best of its class in its image.
        found: ``(T, N)`` bool, the detection was matched to an object of its class.
        ignored: ``(T, N)`` bool, it was not, but lies on an ignored one of its class: it counts for nothing.
        episodes: ``(N,)`` in [0, E).
        target_labels: ``(M,)``.
        target_episodes: ``(M,)`` in [0, E).
        iou_thresholds: The T thresholds.
    """

    scores: Tensor
    labels: Tensor
    ranks: Tensor
    within_limit: Tensor
    found: Tensor
    ignored: Tensor
    episodes: Tensor
    target_labels: Tensor
    target_episodes: Tensor
    iou_thresholds: tuple[float, ...]


class Chunk(NamedTuple):
    """Some images, padded: indices into the pooled boxes (0 where padded) and what they overlap.

    Args:
        index: ``(B, D)`` of the detections.
        target_index: ``(B, G)`` of the objects.
        present: ``(B, D)`` bool, not padding.
        target_present: ``(B, G)`` bool, not padding.
        overlap: ``(B, D, G)`` IoU, -1 where padded.
        same: ``(B, D, G)`` bool, both of one class and not padding.
    """

    index: Tensor
    target_index: Tensor
    present: Tensor
    target_present: Tensor
    overlap: Tensor
    same: Tensor


def pool(
    preds: Sequence[tuple[Tensor, Tensor, Tensor]],
    target: Sequence[tuple[Tensor, Tensor]],
    episodes: Sequence[int],
    ignored: Sequence[Ignored] | None = None,
) -> PooledBoxes:
    """Pool images: detections ``(boxes, scores, labels)``, truth ``(boxes, labels)`` and the episode in [0, E) of each.

    Args:
        preds: Of each image.
        target: Of each image.
        episodes: Of each image.
        ignored: Of each image, labelled like the truth; None: nothing.

    >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    >>> pool([(box, torch.tensor([0.5]), torch.tensor([7]))], [(box, torch.tensor([7]))], [0]).counts.tolist()
    [1]
    """
    ignored = [] if ignored is None else ignored
    best_first = [scores.argsort(descending=True, stable=True) for _, scores, _ in preds]
    return PooledBoxes(
        boxes=_cat([p[0][o].reshape(-1, 4).double() for p, o in zip(preds, best_first, strict=True)], (0, 4)),
        scores=_cat([p[1][o] for p, o in zip(preds, best_first, strict=True)], (0,)),
        labels=_cat([p[2][o].long() for p, o in zip(preds, best_first, strict=True)], (0,)).long(),
        counts=torch.tensor([len(p[1]) for p in preds], dtype=torch.int64),
        target_boxes=_cat([t[0].reshape(-1, 4).double() for t in target], (0, 4)),
        target_labels=_cat([t[1].long() for t in target], (0,)).long(),
        target_counts=torch.tensor([len(t[1]) for t in target], dtype=torch.int64),
        episodes=torch.tensor(episodes, dtype=torch.int64),
        ignored_boxes=_cat([part.boxes.reshape(-1, 4).double() for part in ignored], (0, 4)),
        ignored_labels=_cat([part.labels for part in ignored], (0,)).long(),
        ignored_crowd=_cat([part.crowd for part in ignored], (0,)).bool(),
        ignored_counts=torch.tensor([len(part.labels) for part in ignored] or [0] * len(preds), dtype=torch.int64),
    )


def match(pooled: PooledBoxes, iou_thresholds: Sequence[float], max_detections: int = MAX_DETECTIONS) -> Matches:
    """Match greedily, by the rules of COCO (its evaluateImg, without area ranges).

    The detections of an image choose one after the other, best score first: each takes the object of its class that it
    overlaps most, among those not taken yet whose IoU is at or above the threshold. Of equal overlaps the last object
    wins. A detection that finds none but lies on an ignored object of its class counts for nothing: on a crowd if the
    share of the detection inside it is at or above the threshold (COCO), on a difficult object by IoU (PASCAL VOC).

    Args:
        pooled: The boxes.
        iou_thresholds: In (0, 1].
        max_detections: Of one class in one image; the rest is dropped.

    >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    >>> twice = (box.repeat(2, 1), torch.tensor([0.9, 0.8]), torch.tensor([7, 7]))
    >>> match(pool([twice], [(box, torch.tensor([7]))], [0]), iou_thresholds=[0.5]).found.tolist()
    [[True, False]]
    """
    within_limit = _within_limit(pooled, max_detections)
    is_hit = torch.zeros(len(iou_thresholds), len(pooled.scores), dtype=torch.bool)
    for chunk in chunks(pooled):
        eligible = chunk.same & within_limit[chunk.index][..., None]
        hits = _greedy(chunk.overlap.masked_fill(~eligible, -1.0), iou_thresholds)
        is_hit[:, chunk.index[chunk.present]] = hits[:, chunk.present]
    return Matches(
        scores=pooled.scores,
        labels=pooled.labels,
        ranks=torch.arange(len(pooled.scores)) - _starts(pooled.counts).repeat_interleave(pooled.counts),
        within_limit=within_limit,
        found=is_hit,
        ignored=on_ignored(pooled, iou_thresholds) & ~is_hit,
        episodes=pooled.episodes.repeat_interleave(pooled.counts),
        target_labels=pooled.target_labels,
        target_episodes=pooled.episodes.repeat_interleave(pooled.target_counts),
        iou_thresholds=tuple(iou_thresholds),
    )


def on_ignored(pooled: PooledBoxes, iou_thresholds: Sequence[float]) -> Tensor:
    """Tell which detections lie on an ignored object of their class, ``(T, N)``; many may lie on one."""
    limits = torch.tensor([min(t, EXACT) for t in iou_thresholds], dtype=torch.float64)[:, None]
    result = torch.zeros(len(limits), len(pooled.scores), dtype=torch.bool)
    starts, ignored_starts = _starts(pooled.counts).tolist(), _starts(pooled.ignored_counts).tolist()
    for image in ((pooled.counts > 0) & (pooled.ignored_counts > 0)).nonzero()[:, 0].tolist():
        rows = slice(starts[image], starts[image] + int(pooled.counts[image]))
        others = slice(ignored_starts[image], ignored_starts[image] + int(pooled.ignored_counts[image]))
        boxes, regions = pooled.boxes[rows].double(), pooled.ignored_boxes[others].double()
        crowd = pooled.ignored_crowd[others]
        overlap = torch.where(crowd, share_inside(boxes, regions), iou(boxes, regions))
        same = pooled.labels[rows][:, None] == pooled.ignored_labels[others][None]
        result[:, rows] = overlap.masked_fill(~same, -1.0).amax(1) >= limits
    return result


def share_inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """Return which share of the area of each of ``(D, 4)`` boxes lies inside each of ``(K, 4)`` regions, ``(D, K)``.

    >>> share_inside(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 9, 9]])).tolist()
    [[0.5]]
    """
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)[:, None]
    return (high - low).clamp(min=0).prod(2) / area.clamp(min=1e-12)


def chunks(pooled: PooledBoxes) -> Iterator[Chunk]:
    """Yield the images that have detections, those with similar numbers together, in chunks that fit into memory."""
    images = (pooled.counts > 0).nonzero()[:, 0]
    images = images[pooled.counts[images].argsort(descending=True, stable=True)]
    objects = max(1, int(pooled.target_counts.max())) if len(images) else 1
    while len(images):
        n = max(1, CHUNK // (objects * int(pooled.counts[images[0]])))
        yield _chunk(pooled, images[:n])
        images = images[n:]


def _chunk(pooled: PooledBoxes, images: Tensor) -> Chunk:
    index, present = _pad(_starts(pooled.counts)[images], pooled.counts[images])
    target_index, target_present = _pad(_starts(pooled.target_counts)[images], pooled.target_counts[images])
    if not len(pooled.target_boxes):  # nothing to index: no object in any image
        empty = torch.zeros(*index.shape, 0)
        return Chunk(index, target_index, present, target_present, empty.double(), empty.bool())
    both = present[:, :, None] & target_present[:, None, :]
    overlap = iou(pooled.boxes[index].double(), pooled.target_boxes[target_index].double()).masked_fill(~both, -1.0)
    same = (pooled.labels[index][:, :, None] == pooled.target_labels[target_index][:, None, :]) & both
    return Chunk(index, target_index, present, target_present, overlap, same)


def _greedy(overlap: Tensor, iou_thresholds: Sequence[float]) -> Tensor:
    """Match ``(B, D, G)`` overlaps (-1: not eligible) down the ranks: which detections matched, ``(T, B, D)``."""
    limits = torch.tensor([min(t, EXACT) for t in iou_thresholds], dtype=torch.float64)[:, None]  # (T, 1)
    n_images, n_ranks, n_objects = overlap.shape
    is_hit = torch.zeros(len(limits), n_images, n_ranks, dtype=torch.bool)
    if n_objects == 0:
        return is_hit
    taken = torch.zeros(len(limits), n_images, n_objects, dtype=torch.bool)
    flipped = overlap.flip(-1)  # max() names the first of equal values, COCO takes the last
    possible = (overlap >= limits.min()).any(-1).any(0)
    for rank in possible.nonzero()[:, 0].tolist():
        best, at = flipped[:, rank].masked_fill(taken, -1.0).max(-1)  # (T, B)
        hit = best >= limits
        is_hit[:, :, rank] = hit
        taken.scatter_(-1, at[..., None], hit[..., None] | taken.gather(-1, at[..., None]))
    return is_hit


def _within_limit(pooled: PooledBoxes, limit: int) -> Tensor:
    """Tell which detections are among the ``limit`` best of their class in their image."""
    if not len(pooled.counts) or int(pooled.counts.max()) <= limit:
        return torch.ones(len(pooled.scores), dtype=torch.bool)
    image = torch.arange(len(pooled.counts)).repeat_interleave(pooled.counts)
    group = image * (pooled.labels.max() + 1) + pooled.labels
    order = group.argsort(stable=True)  # keeps the falling scores within a group
    _, sizes = group[order].unique_consecutive(return_counts=True)
    rank = torch.arange(len(group)) - _starts(sizes).repeat_interleave(sizes)
    return torch.empty_like(rank).scatter_(0, order, rank) < limit


def _pad(starts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Index ``counts`` items from each of ``starts``: ``(B, D)`` indices, 0 where padded, and which are not padding."""
    column = torch.arange(int(counts.max()))
    present = column < counts[:, None]
    return torch.where(present, starts[:, None] + column, 0), present


def _starts(counts: Tensor) -> Tensor:
    return counts.cumsum(0) - counts


def _cat(parts: list[Tensor], empty: tuple[int, ...]) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(empty)
