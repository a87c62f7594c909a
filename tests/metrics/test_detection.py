"""What must not change the metrics of detection, their intervals, and bad input."""

import math

import numpy as np
import pytest
import torch
from detection_measure import THRESHOLDS, measure

from lightning_fewshot.episodes import Detections, Episode, Examples
from lightning_fewshot.metrics.detection import DetectionMetrics


def test_perfect_detections_score_one():
    truth = torch.tensor([[0.0, 0.0, 9.0, 9.0], [20.0, 0.0, 40.0, 9.0]])
    query = Examples([torch.zeros(3, 1, 1)], [torch.tensor([0, 1])], [truth])
    preds = [Detections(truth, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))]
    result = measure([(preds, Episode(None, query, ("a", "b"), i, (4, 2))) for i in range(3)])
    for estimate in result.values():
        assert estimate == pytest.approx((1, 1, 1, 3))


def test_order_of_episodes_and_labels_do_not_matter(episodes):
    pairs = episodes(7, seed=1)
    expected = measure(pairs)
    assert measure(pairs[::-1]) == expected
    relabelled = []
    for preds, episode in pairs:
        new = torch.tensor([2, 0, 1])  # old label -> new label; the class ids follow
        ids = tuple(torch.tensor(episode.class_ids)[new.argsort()].tolist())
        query = episode.query._replace(labels=[new[labels] for labels in episode.query.labels])
        preds = [p._replace(labels=new[p.labels]) for p in preds]
        relabelled.append((preds, episode._replace(query=query, class_ids=ids)))
    assert measure(relabelled) == expected


def test_order_of_detections_in_an_image_does_not_matter(episodes):
    pairs = episodes(5, seed=2)
    shuffled = [([Detections(*(field.flip(0) for field in p)) for p in preds], episode) for preds, episode in pairs]
    assert measure(shuffled) == measure(pairs)


def test_interval_shrinks_with_episodes_and_holds_the_value(episodes):
    few, many = (measure(episodes(n, seed=3), resamples=300) for n in (10, 160))
    for name in few:
        assert few[name].low <= few[name].value <= few[name].high
        width_few, width_many = (e[name].high - e[name].low for e in (few, many))
        assert 2 < width_few / width_many < 8, name  # sqrt(16) = 4
        assert (few[name].n, many[name].n) == (10, 160)


def test_interval_is_as_wide_as_the_spread_of_independent_test_sets(episodes):
    sets = [measure(episodes(20, seed=100 + i), resamples=100) for i in range(40)]
    for name in sets[0]:
        values = np.array([s[name].value for s in sets])
        standard_error = np.mean([(s[name].high - s[name].low) / (2 * 1.96) for s in sets])
        assert 0.7 < standard_error / values.std(ddof=1) < 1.4, name
        covered = np.mean([s[name].low <= values.mean() <= s[name].high for s in sets])
        assert covered >= 0.85, name


def test_resampling_equals_repeating_the_episodes(episodes):
    """One row of weights against the metric of a data set in which the episodes are repeated so many times."""
    from lightning_fewshot.metrics.estimate import bootstrap_weights

    pairs = episodes(5, seed=4)
    weights = bootstrap_weights(5, torch.Generator().manual_seed(0), resamples=3)
    samples = sampled_values(pairs, weights)
    for row in range(1, 4):
        times = weights[row].long().tolist()
        copies = [pair for pair, n in zip(pairs, times, strict=True) for _ in range(n)]
        repeated = measure([(preds, episode._replace(index=i)) for i, (preds, episode) in enumerate(copies)])
        for name, values in samples.items():
            assert values[row].item() == pytest.approx(repeated[name].value, abs=1e-9), (row, name)


def sampled_values(pairs, weights):
    from lightning_fewshot.metrics.detection import mean_average_precision, recall_at
    from lightning_fewshot.metrics.detection_matching import match
    from lightning_fewshot.metrics.repmet_pooled_ap import repmet_pooled_ap

    metric = DetectionMetrics()
    for preds, episode in pairs:
        metric.update(preds, episode)
    boxes, _ = metric.pool()
    matches = match(boxes, THRESHOLDS)
    values = dict(zip(("map_30", "map_50", "map_70"), mean_average_precision(matches, weights), strict=True))
    return values | {
        "repmet_pooled_ap": repmet_pooled_ap(boxes, weights),
        "recall_10": recall_at(matches, 10, weights)[1],
    }


def test_nothing_seen():
    with pytest.warns(UserWarning, match="before the ``update``"):
        result = measure([])
    assert set(result) == {"map_30", "map_50", "map_70", "repmet_pooled_ap", "recall_10", "recall_100"}
    assert all(math.isnan(e.value) and e.n == 0 for e in result.values())


def test_no_detections_is_zero_and_no_truth_is_nan(episodes):
    silent = measure(episodes(4, max_detections=0))
    assert all(e[:3] == (0, 0, 0) for e in silent.values())
    aimless = measure(episodes(4, max_objects=0))
    assert all(math.isnan(e.value) for e in aimless.values())
    nothing = measure(episodes(4, max_objects=0, max_detections=0))
    assert all(math.isnan(e.value) and e.n == 4 for e in nothing.values())


def test_one_episode_has_no_interval(episodes):
    result = measure(episodes(1))
    assert all(math.isfinite(e.value) and math.isnan(e.low) and math.isnan(e.high) for e in result.values())


def test_reset_forgets(episodes):
    metric = DetectionMetrics(resamples=5)
    for preds, episode in episodes(3):
        metric.update(preds, episode)
    metric.reset()
    metric.update([], episodes(1)[0][1]._replace(query=Examples([], [], [])))
    assert metric.compute()["map_50"].n == 0


def test_bad_input_is_named(episodes):
    (preds, episode) = episodes(1)[0]
    metric = DetectionMetrics()
    with pytest.raises(ValueError, match="3 predictions, 4 boxes and 4 labels"):
        metric.update(preds[:3], episode)
    with pytest.raises(ValueError, match="no boxes or no labels"):
        metric.update(preds, episode._replace(query=episode.query._replace(boxes=None)))
    wrong = [p._replace(labels=p.labels + 3) for p in preds]
    with pytest.raises(ValueError, match=r"a label of the detections is \d, but there are 3 classes"):
        metric.update(wrong, episode)
    with pytest.raises(ValueError, match="not all finite"):
        metric.update([p._replace(scores=p.scores * math.nan) for p in preds], episode)
    with pytest.raises(ValueError, match=r"iou_thresholds has 50"):
        DetectionMetrics(iou_thresholds=(50,))
    with pytest.raises(ValueError, match=r"recall_at has 300, expected values from 1 to max_detections = 100"):
        DetectionMetrics(recall_at=(300,))
