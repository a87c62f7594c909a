"""Metrics of few-shot detection over all episodes jointly: COCO's mAP, RepMet's pooled AP, Recall@k.

RepMet (Karlinsky et al., CVPR 2019), section 5.2. The paper calls its number "mAP"; the authors' code computes another
quantity, which has its own name here (``repmet_pooled_ap``). The two are never the same column of a table.

Every metric comes as a function of matched boxes and of weights ``(R, E)`` that say how often each of E
episodes counts, and from one ``torchmetrics.Metric`` that matches once and adds a 95 % interval by a bootstrap over
the episodes.

Shapes: R weightings (the first is all ones, then the resamples), E episodes, T IoU thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fewshot.episodes import Detections, Episode
from lightning_fewshot.metrics.detection_matching import MAX_DETECTIONS, Matches, PooledBoxes, match
from lightning_fewshot.metrics.estimate import RESAMPLES, Estimate, bootstrap_interval, bootstrap_weights
from lightning_fewshot.metrics.gathering import gather_to_cpu
from lightning_fewshot.metrics.ranking import average_precision, count, interpolated_area
from lightning_fewshot.metrics.repmet_pooled_ap import repmet_pooled_ap

LARGEST = 2**24  # float32 counts exactly up to here; see DetectionMetrics on its states
BOX_STATES = ("boxes", "scores", "labels", "target_boxes", "target_labels")
IGNORED_STATES = ("ignored_boxes", "ignored_labels", "ignored_crowd")
IMAGE_STATES = ("counts", "target_counts", "ignored_counts", "episodes")
STATES = BOX_STATES + IGNORED_STATES + IMAGE_STATES


def mean_average_precision(matches: Matches, weights: Tensor) -> Tensor:
    """Average precision by COCO's rule, mean over the classes that have objects.

    Greedy matching by score, every object once, so that a duplicate is a false positive; the 100 best detections of a
    class in an image; precision raised to its envelope and read at 101 recall levels. The detections of a class are
    pooled over the images of all episodes; the same photo in two episodes is two images. Crowds and difficult objects
    are ignored, see ``match``.

    Args:
        matches: From ``match``, at T thresholds.
        weights: ``(R, E)`` float64.

    Returns:
        ``(T, R)`` in [0, 1]; nan where there is no object at all.
    """
    order = matches.scores.argsort(descending=True, stable=True)
    order = order[matches.within_limit[order]]
    order = order[matches.labels[order].argsort(stable=True)]  # class by class, by falling score within
    labels = matches.labels[order]
    total, n_classes = weights.new_zeros(len(matches.found), len(weights)), weights.new_zeros(len(weights))
    for label in matches.target_labels.unique().tolist():
        n_objects = count(matches.target_episodes[matches.target_labels == label], weights)
        first, last = torch.searchsorted(labels, torch.tensor([label, label + 1])).tolist()
        of_class = order[first:last]
        for t, found in enumerate(matches.found):
            counted = of_class[~matches.ignored[t, of_class]]
            ranked = found[counted], matches.episodes[counted]
            total[t] += average_precision(*ranked, n_objects, weights, interpolated_area).nan_to_num(0.0)
        n_classes += n_objects > 0
    return total / n_classes  # 0 / 0 = nan


def recall_at(matches: Matches, k: int, weights: Tensor) -> Tensor:
    """Share of all objects that the k best detections of each image find, all classes of an image together.

    Found means matched as in ``match``: IoU at or above the threshold, the same class, every detection for one object.
    RepMet, section 5.2 (Recall@10 and Recall@100: the k top detections in each test image).

    Args:
        matches: From ``match``, at T thresholds.
        k: Detections of an image, at most the ``max_detections`` of ``match``.
        weights: ``(R, E)`` float64.

    Returns:
        ``(T, R)`` in [0, 1]; nan where there is no object.
    """
    n_objects = count(matches.target_episodes, weights)
    top = matches.ranks < k
    return torch.stack([count(matches.episodes[found & top], weights) for found in matches.found]) / n_objects


class DetectionMetrics(Metric):
    """Collect the detections of all episodes; ``compute`` gives ``{name: Estimate}``.

    Names: ``map_50`` for each of ``iou_thresholds``, ``repmet_pooled_ap`` and ``recall_10`` for each of ``recall_at``,
    the last two at IoU 0.5. The interval is a bootstrap over episodes with a fixed seed.

    The result does not depend on how the episodes were spread over processes: episodes are sorted by their index. One
    and the same episode must be given by one process only.

    The states are flat float32 lists on the CPU. Flat and of the default type, because that is what torchmetrics puts
    in for a process that saw nothing; class and episode numbers are therefore limited to 2^24.

    Args:
        iou_thresholds: Of the mAP.
        recall_at: The k of Recall@k; empty: none.
        pooled: Compute ``repmet_pooled_ap``.
        max_detections: Of one class in one image, COCO's limit.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        kwargs: For ``torchmetrics.Metric``.

    Raises:
        ValueError: A threshold is outside (0, 1], or a k above ``max_detections``.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def __init__(
        self,
        iou_thresholds: Sequence[float] = (0.5,),
        recall_at: Sequence[int] = (10, 100),
        pooled: bool = True,
        max_detections: int = MAX_DETECTIONS,
        resamples: int = RESAMPLES,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**{"dist_sync_fn": gather_to_cpu, **kwargs})
        for threshold in iou_thresholds:
            if not 0 < threshold <= 1:
                raise ValueError(f"iou_thresholds has {threshold}, expected values in (0, 1]")
        for k in recall_at:
            if not 0 < k <= max_detections:
                raise ValueError(f"recall_at has {k}, expected values from 1 to max_detections = {max_detections}")
        self.iou_thresholds, self.recall_at, self.pooled = tuple(iou_thresholds), tuple(recall_at), pooled
        self.max_detections, self.resamples, self.seed = max_detections, resamples, seed
        for name in STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @torch.no_grad()
    def update(self, preds: Sequence[Detections], episode: Episode) -> None:
        """Add the query images of one episode, or some of them.

        Args:
            preds: One for each image in ``episode.query``.
            episode: Its query holds the truth; ``class_ids`` turns labels into classes of the split (None: they are).

        Raises:
            ValueError: The numbers of images differ, the truth is missing, a label is out of range, or a score is not
                finite.
        """
        truth = episode.query
        if truth.boxes is None or truth.labels is None:
            raise ValueError(f"episode {episode.index}: query has no boxes or no labels to compare detections with")
        if not len(preds) == len(truth.boxes) == len(truth.labels):
            sizes = f"{len(preds)} predictions, {len(truth.boxes)} boxes and {len(truth.labels)} labels"
            raise ValueError(f"episode {episode.index}: {sizes}, expected one for each query image")
        best_first = [p.scores.argsort(descending=True, stable=True) for p in preds]
        scores = _flat([p.scores[o] for p, o in zip(preds, best_first, strict=True)])
        if not scores.isfinite().all():
            raise ValueError(f"episode {episode.index}: scores of the detections are not all finite")
        self.boxes.append(_flat([p.boxes[o] for p, o in zip(preds, best_first, strict=True)]))
        self.scores.append(scores)
        self.labels.append(
            _global([p.labels[o] for p, o in zip(preds, best_first, strict=True)], episode, "detections")
        )
        self.target_boxes.append(_flat(truth.boxes))
        self.target_labels.append(_global(truth.labels, episode, "query"))
        self.counts.append(torch.tensor([len(p.scores) for p in preds], dtype=torch.float32))
        self.target_counts.append(torch.tensor([len(labels) for labels in truth.labels], dtype=torch.float32))
        self._add_ignored(episode)
        self.episodes.append(torch.full((len(preds),), float(_exact(episode.index, "episode.index"))))

    def _add_ignored(self, episode: Episode) -> None:
        parts = episode.query.ignored or []
        self.ignored_boxes.append(_flat([part.boxes for part in parts]))
        self.ignored_labels.append(_global([part.labels for part in parts], episode, "ignored objects"))
        self.ignored_crowd.append(_flat([part.crowd for part in parts]))
        counts = [len(part.labels) for part in parts] or [0] * len(episode.query.boxes)
        self.ignored_counts.append(torch.tensor(counts, dtype=torch.float32))

    def compute(self) -> dict[str, Estimate]:
        """Match, rank and resample everything collected so far."""
        boxes, n = self.pool()
        weights = bootstrap_weights(n, torch.Generator().manual_seed(self.seed), self.resamples)
        thresholds = (*self.iou_thresholds, 0.5)  # the last one for recall
        matches = match(boxes, thresholds, self.max_detections)
        for_map = matches._replace(
            found=matches.found[:-1], ignored=matches.ignored[:-1], iou_thresholds=self.iou_thresholds
        )
        for_recall = matches._replace(found=matches.found[-1:], ignored=matches.ignored[-1:], iou_thresholds=(0.5,))
        values = {
            f"map_{100 * threshold:g}": value
            for threshold, value in zip(self.iou_thresholds, mean_average_precision(for_map, weights), strict=True)
        }
        if self.pooled:
            values["repmet_pooled_ap"] = repmet_pooled_ap(boxes, weights)
        values |= {f"recall_{k}": recall_at(for_recall, k, weights)[0] for k in self.recall_at}
        return {name: bootstrap_interval(value, n) for name, value in values.items()}

    def pool(self) -> tuple[PooledBoxes, int]:
        """Return all images, sorted by episode, and the number of episodes."""
        state = {name: _joined(getattr(self, name)) for name in STATES}
        counts, target_counts = state["counts"].long(), state["target_counts"].long()
        indices, rows = state["episodes"].long().unique(return_inverse=True)
        images = rows.argsort(stable=True)
        order, target_order = _regroup(counts, images), _regroup(target_counts, images)
        ignored_counts = state["ignored_counts"].long()
        ignored_order = _regroup(ignored_counts, images)
        boxes = PooledBoxes(
            boxes=state["boxes"].reshape(-1, 4)[order],
            scores=state["scores"][order],
            labels=state["labels"].long()[order],
            counts=counts[images],
            target_boxes=state["target_boxes"].reshape(-1, 4)[target_order],
            target_labels=state["target_labels"].long()[target_order],
            target_counts=target_counts[images],
            episodes=rows[images],
            ignored_boxes=state["ignored_boxes"].reshape(-1, 4)[ignored_order],
            ignored_labels=state["ignored_labels"].long()[ignored_order],
            ignored_crowd=state["ignored_crowd"].bool()[ignored_order],
            ignored_counts=ignored_counts[images],
        )
        return boxes, len(indices)


def _regroup(counts: Tensor, images: Tensor) -> Tensor:
    """Index the boxes of ``images`` in that order, where ``counts`` boxes of every image lie one after the other."""
    starts = counts.cumsum(0) - counts
    n = counts[images]
    return (starts[images] - (n.cumsum(0) - n)).repeat_interleave(n) + torch.arange(int(n.sum()))


def _global(labels: Sequence[Tensor], episode: Episode, what: str) -> Tensor:
    """Turn labels of an episode into classes of the split."""
    flat = torch.cat([part.reshape(-1).long().cpu() for part in labels]) if len(labels) else torch.zeros(0).long()
    n = len(episode.classes) if episode.class_ids is None else len(episode.class_ids)
    if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < n:
        bad = flat[(flat < 0) | (flat >= n)][0]
        raise ValueError(f"episode {episode.index}: a label of the {what} is {bad}, but there are {n} classes")
    ids = (
        torch.arange(n)
        if episode.class_ids is None
        else torch.tensor([_exact(c, "class_ids") for c in episode.class_ids])
    )
    return ids[flat].float()


def _exact(number: int, name: str) -> int:
    if not 0 <= number < LARGEST:
        raise ValueError(f"{name} is {number}, expected 0 to {LARGEST - 1}")
    return int(number)


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.detach().reshape(-1).float().cpu() for p in parts]) if len(parts) else torch.zeros(0)


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """Concatenate a list state; after a synchronisation it is one tensor already."""
    return _flat([state] if isinstance(state, Tensor) else state)
