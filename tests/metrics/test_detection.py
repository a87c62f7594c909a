"""The joint mAP and the recall against pycocotools, torchmetrics and brute force; and what must not change them."""

import contextlib
import io
import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from lightning_fewshot.episodes import Detections, Episode, Examples, Ignored
from lightning_fewshot.metrics.detection import DetectionMetrics

THRESHOLDS = (0.3, 0.5, 0.7)


def measure(pairs, **kwargs):
    metric = DetectionMetrics(**{"iou_thresholds": THRESHOLDS, "resamples": 20, **kwargs})
    for preds, episode in pairs:
        metric.update(preds, episode)
    return metric.compute()


def images_of(pairs):
    """Yield (truth boxes, global labels, boxes, scores, global labels) of every image of every episode."""
    for preds, episode in pairs:
        ids = torch.tensor(episode.class_ids)
        for p, boxes, labels in zip(preds, episode.query.boxes, episode.query.labels, strict=True):
            yield boxes, ids[labels], p.boxes, p.scores, ids[p.labels]


def crowds_of(pairs):
    """Yield (image, box, global label) of every crowd of every episode."""
    queries = ((part, episode) for _, episode in pairs for part in episode.query.ignored or [])
    for image, (part, episode) in enumerate(queries):
        for box, label in zip(part.boxes.tolist(), part.labels.tolist(), strict=True):
            yield image, box, episode.class_ids[label]


def with_crowds(pairs, seed):
    """Add crowds of 0 to 2 classes to every image, often where detections are."""
    g, result = torch.Generator().manual_seed(seed), []
    for preds, episode in pairs:
        ignored = []
        for pred in preds:
            count = int(torch.randint(3, (), generator=g))
            boxes = torch.rand(count, 4, generator=g) * 60
            boxes[:, 2:] += boxes[:, :2] + 20
            labels = torch.randint(len(episode.classes), (count,), generator=g)
            if count and len(pred.scores):
                boxes[0], labels[0] = pred.boxes[0] + torch.tensor([-9, -9, 3, 3]), pred.labels[0]
            ignored.append(Ignored(boxes, labels, torch.ones(count, dtype=torch.bool)))
        result.append((preds, episode._replace(query=episode.query._replace(ignored=ignored))))
    return result


def coco_map(pairs):
    """Compute mAP at THRESHOLDS with pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, detections, n_images = [], [], 0
    for image, (t_boxes, t_labels, boxes, scores, labels) in enumerate(images_of(pairs)):
        n_images += 1
        for (x1, y1, x2, y2), label in zip(t_boxes.double().tolist(), t_labels.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        for (x1, y1, x2, y2), score, label in zip(
            boxes.double().tolist(), scores.tolist(), labels.tolist(), strict=True
        ):
            detections.append(
                {"image_id": image, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            )
    for image, (x1, y1, x2, y2), label in crowds_of(pairs):
        row = {"id": len(annotations) + 1, "image_id": image, "category_id": label, "iscrowd": 1}
        annotations.append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(n_images)],
            "annotations": annotations,
            "categories": [{"id": i} for i in range(30)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.params.iouThrs = np.array(THRESHOLDS)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (T, 101, classes), all areas, 100 detections
    return [p[p > -1].mean() for p in precision]


@pytest.mark.parametrize("seed", range(4))
def test_map_equals_pycocotools(episodes, seed):
    pairs = episodes(8, seed=seed)
    ours = measure(pairs)
    expected = coco_map(pairs)
    assert 0.05 < expected[1] < 0.95
    for name, value in zip(("map_30", "map_50", "map_70"), expected, strict=True):
        assert ours[name].value == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_map_with_crowds_equals_pycocotools(episodes, seed):
    pairs = with_crowds(episodes(8, seed=seed), seed)
    ours, expected = measure(pairs), coco_map(pairs)
    assert abs(expected[1] - measure(episodes(8, seed=seed))["map_50"].value) > 0.005, "crowds make a difference"
    for name, value in zip(("map_30", "map_50", "map_70"), expected, strict=True):
        assert ours[name].value == pytest.approx(value, abs=1e-6)


def test_a_difficult_object_is_neither_found_nor_missed_by_vocs_rule():
    """PASCAL VOC's own evaluation (voc_eval.m): any number of detections on it, by IoU, count for nothing."""
    truth, hard = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[20.0, 0, 40, 20]])
    on_hard = hard + torch.tensor([[0, 0, 2, 2]])
    inside = torch.tensor([[22.0, 2, 28, 8]])  # within, but of a low IoU: a false positive, other than on a crowd
    boxes, labels = torch.cat((on_hard, on_hard, inside, truth)), torch.zeros(4, dtype=torch.int64)
    preds = Detections(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), labels)

    def value(crowd):
        part = Ignored(hard, labels[:1], torch.tensor([crowd]))
        query = Examples([torch.zeros(3, 50, 50)], [labels[:1]], [truth], ignored=[part])
        metrics = measure([([preds], Episode(None, query, ("x",), 0, (0,)))], recall_at=(10,))
        return {name: metrics[name].value for name in ("map_50", "repmet_pooled_ap", "recall_10")}

    assert value(crowd=False) == pytest.approx({"map_50": 0.5, "repmet_pooled_ap": 0.5, "recall_10": 1.0})
    assert value(crowd=True) == pytest.approx({"map_50": 1.0, "repmet_pooled_ap": 1.0, "recall_10": 1.0})


def test_map_equals_pycocotools_beyond_100_detections_of_a_class(episodes):
    pairs = episodes(3, seed=9, n_way=2, max_detections=500, max_objects=6)
    assert max(len(p.scores) for preds, _ in pairs for p in preds) > 300
    assert measure(pairs)["map_50"].value == pytest.approx(coco_map(pairs)[1], abs=1e-6)


def test_map_equals_torchmetrics(episodes):
    from torchmetrics.detection import MeanAveragePrecision

    pairs = episodes(6, seed=5)
    reference = MeanAveragePrecision(iou_thresholds=[0.5], backend="faster_coco_eval")
    for t_boxes, t_labels, boxes, scores, labels in images_of(pairs):
        pred = {"boxes": boxes, "scores": scores, "labels": labels}
        reference.update([pred], [{"boxes": t_boxes, "labels": t_labels}])
    assert measure(pairs)["map_50"].value == pytest.approx(reference.compute()["map"].item(), abs=1e-6)


def brute_force_recall(pairs, k, threshold=0.5):
    found = total = 0
    for t_boxes, t_labels, boxes, scores, labels in images_of(pairs):
        total += len(t_labels)
        overlap, taken = box_iou(boxes.double(), t_boxes.double()), set()
        for d in scores.argsort(descending=True)[:k].tolist():
            free = [g for g in range(len(t_labels)) if t_labels[g] == labels[d] and g not in taken]
            best = max(free, key=lambda g: overlap[d, g].item(), default=None)
            if best is not None and overlap[d, best] >= threshold:
                taken.add(best)
        found += len(taken)
    return found / total


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_recall_equals_brute_force(episodes, k):
    pairs = episodes(6, seed=k)
    assert measure(pairs, recall_at=(k,))[f"recall_{k}"].value == pytest.approx(brute_force_recall(pairs, k), abs=1e-12)


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
