"""RepMet's pooled AP against its rule as a plain loop, and against scikit-learn's idea of a tie."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from lightning_fewshot.metrics.detection import DetectionMetrics
from lightning_fewshot.metrics.detection_matching import pool
from lightning_fewshot.metrics.repmet_pooled_ap import repmet_pooled_ap, repmet_ranking

ONE = torch.ones(1, 1, dtype=torch.float64)
A, FAR = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[50.0, 50.0, 60.0, 60.0]])


def plain_ranking(pairs, threshold=0.5):
    """List (score, is true) by the rule, one detection and one object at a time; and count the objects."""
    items, n_objects = [], 0
    for preds, episode in pairs:
        for p, t_boxes, t_labels in zip(preds, episode.query.boxes, episode.query.labels, strict=True):
            n_objects += len(t_labels)
            covers = (box_iou(p.boxes.double(), t_boxes.double()) >= threshold).tolist()
            for c in range(len(episode.classes)):
                of_class = [d for d in range(len(p.scores)) if p.labels[d] == c]
                hits = {d for d in of_class for g, label in enumerate(t_labels) if label == c and covers[d][g]}
                for g, label in enumerate(t_labels.tolist()):
                    pool_of_g = [d for d in of_class if covers[d][g] and (label == c or d not in hits)]
                    if pool_of_g:
                        items.append((max(p.scores[d].item() for d in pool_of_g), label == c))
                items += [(p.scores[d].item(), False) for d in of_class if not any(covers[d])]
    return sorted(items, reverse=True), n_objects


def plain_area(items, n_objects):
    """Integrate the best precision at equal or higher recall over recall."""
    true = np.cumsum([t for _, t in items])
    precision, recall = true / np.arange(1, len(items) + 1), true / n_objects
    total, last = 0.0, 0.0
    for i in range(len(items)):
        total += (recall[i] - last) * precision[i:].max()
        last = recall[i]
    return total


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_plain_loop(episodes, seed):
    pairs = episodes(6, seed=seed)
    metric = DetectionMetrics(resamples=2)
    for preds, episode in pairs:
        metric.update(preds, episode)
    items, n_objects = plain_ranking(pairs)
    ranked = repmet_ranking(metric.pool()[0])
    assert list(zip(ranked.scores.tolist(), ranked.is_true.tolist(), strict=True)) == items
    value = metric.compute()["repmet_pooled_ap"].value
    assert 0.1 < value < 0.99
    assert value == pytest.approx(plain_area(items, n_objects), abs=1e-12)


def ranking(boxes, scores, labels, t_boxes, t_labels):
    pooled = pool([(boxes, torch.tensor(scores), torch.tensor(labels))], [(t_boxes, torch.tensor(t_labels))], [0])
    ranked = repmet_ranking(pooled)
    return list(zip(ranked.scores.tolist(), ranked.is_true.tolist(), strict=True))


def test_duplicates_are_not_false():
    assert ranking(torch.cat((A, A)), [0.75, 0.5], [1, 1], A, [1]) == [(0.75, True)]


def test_wrong_class_counts_once_for_each_object():
    assert ranking(torch.cat((A, A, A)), [0.75, 0.5, 0.25], [0, 0, 2], A, [1]) == [(0.75, False), (0.25, False)]


def test_only_what_covers_nothing_is_background():
    assert ranking(torch.cat((FAR, FAR)), [0.75, 0.5], [1, 1], A, [1]) == [(0.75, False), (0.5, False)]


def test_zero_scores_are_left_out():
    assert ranking(torch.cat((A, FAR)), [0.0, 0.0], [1, 1], A, [1]) == []


def test_image_without_objects_gives_background():
    assert ranking(A, [0.5], [1], torch.zeros(0, 4), []) == [(0.5, False)]


def test_ties_enter_together():
    """Two items of one score, one true, one false: precision is 1/2 where the tie ends, in whatever order they come."""
    for labels in ([1, 0], [0, 1]):
        pooled = pool(
            [(torch.cat((A, FAR)), torch.tensor([0.5, 0.5]), torch.tensor([1, 1]))],
            [(A, torch.tensor([1]))],
            [0],
        )
        flipped = pooled._replace(boxes=pooled.boxes.flip(0)) if labels[0] == 0 else pooled
        assert repmet_pooled_ap(flipped, ONE).item() == 0.5
