"""Scoring episodes of 50 images on one core: growth with their number, and the joint mAP against pycocotools.

Run: pytest tests/benchmarks/test_detection_metrics_speed.py -s
"""

import contextlib
import io
import time

import numpy as np
import pytest
import torch
from timing import say

from lightning_fewshot.episodes import Detections, Episode, Examples
from lightning_fewshot.metrics.detection import DetectionMetrics, mean_average_precision
from lightning_fewshot.metrics.detection_matching import match

EPISODES, IMAGES, WAYS, CLASSES, DETECTIONS, OBJECTS = 60, 50, 5, 214, 100, 3


@pytest.fixture(autouse=True)
def one_core():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_episode(index):
    """Draw one to three objects and 20 to 100 detections an image, two in ten of them near an object."""
    g = torch.Generator().manual_seed(index)
    ids = torch.randperm(CLASSES, generator=g)[:WAYS]
    corner = torch.rand(IMAGES, OBJECTS, 2, generator=g) * 300
    truth = torch.cat((corner, corner + 60 + torch.rand(IMAGES, OBJECTS, 2, generator=g) * 200), dim=-1)
    labels = torch.randint(WAYS, (IMAGES, OBJECTS), generator=g)
    which = torch.randint(OBJECTS, (IMAGES, DETECTIONS), generator=g)
    near = truth.take_along_dim(which[..., None], 1) + torch.randn(IMAGES, DETECTIONS, 4, generator=g) * 20
    near[..., 2:] = near[..., 2:].maximum(near[..., :2] + 5)  # COCO ignores an inverted box instead of counting it
    corner = torch.rand(IMAGES, DETECTIONS, 2, generator=g) * 300
    loose = torch.cat((corner, corner + 40 + torch.rand(IMAGES, DETECTIONS, 2, generator=g) * 200), dim=-1)
    is_near = torch.rand(IMAGES, DETECTIONS, generator=g) < 0.2
    boxes = torch.where(is_near[..., None], near, loose)
    chosen = torch.randint(WAYS, (IMAGES, DETECTIONS), generator=g)
    chosen = torch.where(is_near & (torch.rand(IMAGES, DETECTIONS, generator=g) < 0.7), labels.gather(1, which), chosen)
    scores = torch.rand(IMAGES, DETECTIONS, generator=g) * torch.where(is_near, 1.0, 0.6)
    n = torch.randint(20, DETECTIONS + 1, (IMAGES,), generator=g).tolist()
    m = torch.randint(1, OBJECTS + 1, (IMAGES,), generator=g).tolist()
    query = Examples(
        images=[],
        labels=[labels[i, : m[i]] for i in range(IMAGES)],
        boxes=[truth[i, : m[i]] for i in range(IMAGES)],
    )
    preds = [Detections(boxes[i, : n[i]], scores[i, : n[i]], chosen[i, : n[i]]) for i in range(IMAGES)]
    return preds, Episode(None, query, tuple(map(str, ids.tolist())), index, tuple(ids.tolist()))


def collect(n, **kwargs):
    """Give a metric that has seen n episodes, and the seconds its updates took."""
    metric, seconds = DetectionMetrics(**kwargs), 0.0
    for index in range(n):
        preds, episode = make_episode(index)
        start = time.process_time()
        metric.update(preds, episode)
        seconds += time.process_time() - start
    return metric, seconds


def scoring_seconds(n, **kwargs):
    """Time the updates and the estimates of n episodes."""
    metric, updates = collect(n, **kwargs)
    start = time.process_time()
    metric.compute()
    return updates + time.process_time() - start


def test_scoring_grows_with_the_episodes():
    """Three times the episodes take about three times as long, intervals included."""
    few, many = scoring_seconds(EPISODES // 3), scoring_seconds(EPISODES)
    say(f"{EPISODES} x {IMAGES} images with intervals: {many / few:.2f} times a third of them")
    assert many <= 4 * few


def test_intervals_do_not_dominate():
    """The bootstrap at most doubles the time."""
    bare, whole = scoring_seconds(EPISODES, resamples=1), scoring_seconds(EPISODES)
    say(f"{EPISODES} x {IMAGES} images: with intervals {whole / bare:.2f} times the time without")
    assert whole <= 2 * bare


def coco_seconds(boxes):
    """Time pycocotools' joint mAP at IoU 0.5 on pooled boxes; return the value and the seconds."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = torch.arange(len(boxes.counts))
    truth = table(boxes.target_boxes, images.repeat_interleave(boxes.target_counts), boxes.target_labels)
    found = table(boxes.boxes, images.repeat_interleave(boxes.counts), boxes.labels)
    for i, annotation in enumerate(truth):
        annotation |= {"id": i + 1, "iscrowd": 0, "area": annotation["bbox"][2] * annotation["bbox"][3]}
    for detection, score in zip(found, boxes.scores.tolist(), strict=True):
        detection["score"] = score
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [{"id": i} for i in boxes.target_labels.unique().tolist()]
        coco.dataset = {"images": [{"id": i} for i in images.tolist()], "annotations": truth, "categories": categories}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return precision[precision > -1].mean(), time.perf_counter() - start


def table(boxes, images, labels):
    """List one dictionary for each box, as COCO's json has them."""
    xywh = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1).double().tolist()
    columns = zip(xywh, images.tolist(), labels.tolist(), strict=True)
    return [{"bbox": box, "image_id": image, "category_id": label} for box, image, label in columns]


def test_joint_map_against_pycocotools():
    metric, updates = collect(50)
    boxes, n = metric.pool()
    start = time.perf_counter()
    metric.compute()
    whole = updates + time.perf_counter() - start
    start = time.perf_counter()
    ours = mean_average_precision(match(boxes, (0.5,)), torch.ones(1, n, dtype=torch.float64)).item()
    seconds = time.perf_counter() - start
    reference, coco = coco_seconds(boxes)
    say(
        f"50 x {IMAGES} images: ours {seconds:.2f} s, pycocotools {coco:.2f} s, ratio {coco / seconds:.1f}; "
        f"all metrics with their intervals {coco / whole:.1f} times as fast as its one value"
    )
    assert abs(ours - reference) < 1e-6
    assert whole < coco
