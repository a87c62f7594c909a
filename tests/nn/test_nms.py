"""Soft-NMS against the loop of the paper's figure 2; hard NMS against one call for each class and image."""

import math

import pytest
import torch
from torchvision.ops import box_iou
from torchvision.ops import nms as torchvision_nms

from lightning_fewshot.nn.nms import nms, soft_nms


def clutter(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g) * 40
    boxes = torch.cat((corner, corner + 10 + torch.rand(n, 2, generator=g) * 20), dim=1)
    labels, images = (torch.randint(3, (n,), generator=g) for _ in range(2))
    return boxes, torch.rand(n, generator=g), labels, images


def plain_soft_nms(boxes, scores, method, iou_threshold, sigma, score_threshold):
    """Bodla et al., figure 2, for one class of one image: {index: final score}."""
    left, final = dict(enumerate(scores.tolist())), {}
    overlap = box_iou(boxes, boxes).tolist()
    while left:
        best = max(left, key=left.get)
        score = left.pop(best)
        if score <= score_threshold:
            break
        final[best] = score
        for i in left:
            o = overlap[best][i]
            left[i] *= math.exp(-(o**2) / sigma) if method == "gaussian" else (1 - o if o >= iou_threshold else 1.0)
    return final


@pytest.mark.parametrize("method", ["gaussian", "linear"])
@pytest.mark.parametrize("score_threshold", [0.0, 0.05])
def test_soft_nms_equals_the_plain_loop(method, score_threshold):
    boxes, scores, labels, images = clutter(150)
    kept, final = nms(boxes, scores, labels, images, f"soft_{method}", 0.3, 0.4, score_threshold)
    expected = {}
    for image in range(3):
        for label in range(3):
            of_group = ((images == image) & (labels == label)).nonzero()[:, 0]
            plain = plain_soft_nms(boxes[of_group], scores[of_group], method, 0.3, 0.4, score_threshold)
            expected |= {of_group[i].item(): s for i, s in plain.items()}
    assert set(kept.tolist()) == set(expected)
    assert final.tolist() == pytest.approx([expected[i] for i in kept.tolist()], rel=1e-4)
    assert (final.diff() <= 0).all()
    if score_threshold:
        assert len(kept) < 150


def test_hard_nms_is_per_class_and_image():
    boxes, scores, labels, images = clutter(120, seed=1)
    kept, final = nms(boxes, scores, labels, images, "nms", iou_threshold=0.3)
    expected = set()
    for image in range(3):
        for label in range(3):
            of_group = ((images == image) & (labels == label)).nonzero()[:, 0]
            expected |= set(of_group[torchvision_nms(boxes[of_group], scores[of_group], 0.3)].tolist())
    assert set(kept.tolist()) == expected
    assert torch.equal(final, scores[kept])
    assert (final.diff() <= 0).all()


@pytest.mark.parametrize("kind", ["nms", "soft_gaussian", "soft_linear"])
def test_no_boxes(kind):
    none = torch.zeros(0, dtype=torch.int64)
    kept, scores = nms(torch.zeros(0, 4), torch.zeros(0), none, none, kind)
    assert len(kept) == len(scores) == 0


def test_arguments_stay_as_they_are():
    boxes, scores, *_ = clutter(20)
    before = boxes.clone(), scores.clone()
    soft_nms(boxes, scores)
    assert torch.equal(boxes, before[0])
    assert torch.equal(scores, before[1])


def test_unknown_kind():
    boxes, scores, labels, images = clutter(3)
    with pytest.raises(ValueError, match="kind is 'softer', expected one of"):
        nms(boxes, scores, labels, images, "softer")
    with pytest.raises(ValueError, match="method is 'cubic'"):
        soft_nms(boxes, scores, method="cubic")
