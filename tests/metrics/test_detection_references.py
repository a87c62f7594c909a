"""The joint mAP and the recall against pycocotools, torchmetrics and brute force."""

import contextlib
import io

import numpy as np
import pytest
import torch
from detection_measure import THRESHOLDS, measure
from torchvision.ops import box_iou

from lightning_fewshot.episodes import Detections, Episode, Examples, Ignored


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


def coco_truth(pairs):
    """List the objects and the crowds as COCO's annotations."""
    found = []
    for image, (boxes, labels, *_) in enumerate(images_of(pairs)):
        for box, label in zip(boxes.double().tolist(), labels.tolist(), strict=True):
            found.append((image, box, label, 0))
    found += [(image, box, label, 1) for image, box, label in crowds_of(pairs)]
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": label,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": crowd,
        }
        for number, (image, (x1, y1, x2, y2), label, crowd) in enumerate(found, 1)
    ]


def coco_detections(pairs):
    """List the detections as COCO's results."""
    return [
        {"image_id": image, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for image, (_, _, boxes, scores, labels) in enumerate(images_of(pairs))
        for (x1, y1, x2, y2), score, label in zip(
            boxes.double().tolist(), scores.tolist(), labels.tolist(), strict=True
        )
    ]


def coco_map(pairs):
    """Compute mAP at THRESHOLDS with pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i, _ in enumerate(images_of(pairs))],
            "annotations": coco_truth(pairs),
            "categories": [{"id": i} for i in range(30)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(coco_detections(pairs)), "bbox")
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
