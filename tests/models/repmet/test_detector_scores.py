"""The detectors' scores: weighed by the probability of an object, of absent and of permuted classes."""

import pytest
import torch
from tiny_detectors import EVERYTHING, PYRAMID, detector
from torchvision.ops import box_iou, clip_boxes_to_image

from lightning_fewshot.models.repmet import (
    ExternalMetricDetector,
    PlainDetector,
    PlainMetricDetector,
    RepMetDetector,
)
from lightning_fewshot.models.repmet.settings import (
    AuxiliaryClassifier,
    FineTuning,
)
from lightning_fewshot.nn.detections import DetectionFilter
from lightning_fewshot.nn.two_stage import Pyramid


@pytest.mark.parametrize("cls", [RepMetDetector, PlainDetector, PlainMetricDetector])
@pytest.mark.parametrize("absent", [0, 2])
def test_a_class_without_support_is_never_detected(scenes, cls, absent):
    """The published ImageNet-LOC lists hold an episode whose support images have no box of one class."""
    module = detector(cls, finetuning=FineTuning(steps=3), detections=EVERYTHING).eval()
    support, query = (getattr(scenes.episode("test", 0), part) for part in ("support", "query"))
    kept = [labels != absent for labels in support.labels]
    support = support._replace(
        boxes=[b[k] for b, k in zip(support.boxes, kept, strict=True)],
        labels=[n[k] for n, k in zip(support.labels, kept, strict=True)],
    )
    preds = module.predict(module.adapt(support), query)
    labels = torch.cat([detections.labels for detections in preds])
    assert len(labels) > 0
    if cls is not PlainDetector:  # a softmax still gives every class some probability
        assert absent not in labels.tolist()


@pytest.mark.parametrize("cls", [RepMetDetector, PlainMetricDetector, ExternalMetricDetector])
@pytest.mark.parametrize("factor", ["foreground", "objectness"])
def test_scores_are_weighed_by_the_probability_of_an_object(scenes, cls, factor):
    """Every roi and class survives, so that all scores can be compared."""
    plain, weighed = (_weighing(cls, factor, exponent) for exponent in (0.0, 2.0))
    episode = scenes.episode("test", 0)
    found, expected = [m.predict(m.adapt(episode.support), episode.query)[0] for m in (weighed, plain)]
    network = plain.network
    maps = network.maps(episode.query.images[:1])
    proposals = network.propose(maps)
    features = network.features(maps, proposals.boxes)
    if factor == "foreground":
        weight = 1 - plain.classify(features).softmax(1)[:, 0]
    else:
        weight = _objectness(network, maps, proposals.boxes[0])
    assert weight.std() > 0
    scores = plain.adapt(episode.support).scores(plain.head_features(network.pooled(maps, proposals.boxes)))
    torch.testing.assert_close(expected.scores, scores.flatten().sort(descending=True).values)
    torch.testing.assert_close(found.scores, (scores * weight[:, None] ** 2).flatten().sort(descending=True).values)


def _weighing(cls, factor, exponent):
    objectness = exponent if factor == "objectness" else 0.0
    limits = DetectionFilter(nms="nms", nms_iou=1.0, score_threshold=0.0, max_detections=10_000, objectness=objectness)
    foreground = exponent if factor == "foreground" else 0.0
    if cls is RepMetDetector:
        return detector(cls, detections=limits, auxiliary=AuxiliaryClassifier(foreground=foreground)).eval()
    return detector(cls, detections=limits, foreground=foreground).eval()


def _objectness(network, maps, boxes):
    """Find the anchor that each proposal of the first image comes from, and what the network says of it."""
    levels = list(maps.pyramid.values())
    logits, deltas = network.rpn.head(levels)
    anchors = network.rpn.anchor_generator(maps.images, levels)[0]
    decoded = network.rpn.box_coder.decode_single(torch.cat([_rows(d, 4) for d in deltas]), anchors)
    anchor = box_iou(boxes, clip_boxes_to_image(decoded, (96, 96))).argmax(1)
    return torch.cat([_rows(o, 1)[:, 0] for o in logits]).sigmoid()[anchor]


def _rows(maps, width):
    """Bring the first image's predictions, (B, A * width, H, W), into the order of the anchors."""
    return maps[0].unflatten(0, (-1, width)).permute(2, 3, 0, 1).reshape(-1, width)


def test_permuting_the_labels_permutes_the_scores(scenes):
    module = detector().eval()
    episode = scenes.episode("test", 2)
    order = torch.tensor([2, 0, 1])
    renamed = episode.support._replace(labels=[order[label] for label in episode.support.labels])
    features = torch.randn(10, 32)
    plain = module.adapt(episode.support).scores(features)
    permuted = module.adapt(renamed).scores(features)
    torch.testing.assert_close(permuted[:, order], plain)


def test_images_of_different_sizes_give_the_same_boxes_as_alone(scenes):
    module = detector(pyramid=Pyramid(**PYRAMID, short_side=96)).eval()
    episode = scenes.episode("test", 0)
    state = module.adapt(episode.support)
    images = [episode.query.images[0], episode.query.images[1][:, :, :72]]
    together = module.predict(state, episode.query._replace(images=images))
    alone = module.predict(state, episode.query._replace(images=images[:1]))
    assert len(together) == 2
    assert together[1].boxes[:, 2].max() <= 72
    # a wider batch pads the first image, which may move boxes at its border but not those inside
    assert together[0].scores[0].item() == pytest.approx(alone[0].scores[0].item(), abs=0.05)
