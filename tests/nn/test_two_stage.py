"""The two-stage detector by itself: maps, anchors, levels, refusals."""

import math

import pytest
import torch
from torch import nn

from lightning_fewshot.nn.detections import DetectionFilter
from lightning_fewshot.nn.two_stage import Proposals, Pyramid, RoiHead, TwoStageDetector
from lightning_fewshot.settings import BackboneSettings

PYRAMID = {"strides": (8, 16, 32), "anchor_sizes": (24, 40, 64), "channels": 16}
P6 = {**PYRAMID, "anchor_sizes": (24, 40, 64, 128), "coarsest": True}
ROI_HEAD = {"pool_size": 3, "widths": (32,), "per_image": 16}


def make_head(n_inputs, widths):
    return nn.Linear(n_inputs, widths[-1])


def detector(pyramid=PYRAMID, roi_head=ROI_HEAD, proposals=Proposals(train=24, test=24)):
    torch.manual_seed(0)
    return TwoStageDetector(
        BackboneSettings("regnetx_002"),
        pyramid=Pyramid(**pyramid),
        proposals=proposals,
        roi_head=RoiHead(**roi_head),
        make_head=make_head,
    )


def images(height=96, width=128, n=2):
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pyramid", [PYRAMID, P6])
def test_anchors_of_a_map_are_its_stride_apart(pyramid):
    """A map's stride is measured by torchvision from the padded batch: sides that are no multiple would bend it."""
    network = detector(pyramid).eval()
    maps = network.maps(images(100, 130))
    strides = [8, 16, 32, 64][: len(pyramid["anchor_sizes"])]
    height, width = maps.images.tensors.shape[-2:]
    assert height % strides[-1] == width % strides[-1] == 0
    levels = list(maps.pyramid.values())
    assert [tuple(m.shape[-2:]) for m in levels] == [(height // s, width // s) for s in strides]
    anchors = network.rpn.anchor_generator(maps.images, levels)[0]
    for stride, level, size in zip(strides, levels, pyramid["anchor_sizes"], strict=True):
        count = 3 * level.shape[-2] * level.shape[-1]
        centres = (anchors[:count, :2] + anchors[:count, 2:]) / 2
        area = (anchors[:count, 2:] - anchors[:count, :2]).prod(dim=1)
        assert (centres % stride == 0).all()
        torch.testing.assert_close(area.sqrt(), torch.full_like(area, size), rtol=0.05, atol=0)
        anchors = anchors[count:]
    assert len(anchors) == 0


def test_the_coarsest_map_proposes_but_rois_are_not_pooled_from_it():
    network = detector(P6).eval()
    maps = network.maps(images(128, 128))
    roi = [torch.tensor([[0.0, 0.0, 128.0, 128.0]])] * 2
    before = network.pooled(maps, roi)
    spoilt = maps._replace(pyramid={**maps.pyramid, "pool": maps.pyramid["pool"] + 1000})
    assert torch.equal(network.pooled(spoilt, roi), before)
    assert not torch.equal(network.propose(spoilt).objectness[0], network.propose(maps).objectness[0])


@pytest.mark.parametrize("scale", [224, 56])
@pytest.mark.parametrize("side", [16, 27, 29, 57, 80, 111, 113, 150])
def test_a_roi_is_pooled_from_the_level_of_equation_1_of_fpn(scale, side):
    network = detector(roi_head={**ROI_HEAD, "canonical_scale": scale}).eval()
    maps = network.maps(images(160, 160, n=1))
    flat = {name: torch.full_like(m, float(name)) for name, m in maps.pyramid.items()}  # every map says its number
    roi = torch.tensor([[2.0, 2.0, 2.0 + side, 2.0 + side]])
    level = min(max(math.floor(4 + math.log2(side / scale)), 3), 5)  # strides 8 to 32
    assert network.pooled(maps._replace(pyramid=flat), [roi]).flatten().tolist() == pytest.approx(
        [level - 3] * network.n_pooled
    )


def test_every_map_may_send_more_anchors_into_suppression_than_leave_it():
    few = detector(proposals=Proposals(train=24, test=24)).eval()
    many = detector(proposals=Proposals(train=24, test=24, before_nms=200)).eval()
    assert few.rpn.pre_nms_top_n() == few.rpn.post_nms_top_n() == 24
    assert (many.rpn.pre_nms_top_n(), many.rpn.post_nms_top_n()) == (200, 24)
    maps = many.maps(images())
    assert all(len(boxes) == 24 for boxes in many.propose(maps).boxes)


def test_boxes_are_in_pixels_of_the_images_as_they_came():
    small = detector({**PYRAMID, "short_side": 48}).eval()
    found = small.detect(
        images(96, 128),
        score=lambda pooled, features: torch.ones(len(features), 1),
        limits=DetectionFilter(nms="nms", nms_iou=1.0),
    )
    reach = torch.cat([d.boxes for d in found]).amax(dim=0)
    assert 64 < reach[2] <= 128
    assert 48 < reach[3] <= 96


@pytest.mark.parametrize(
    ("group", "changes", "message"),
    [
        (Pyramid, {"strides": (8, 16)}, "strides has 2 entries but anchor_sizes has 4"),
        (Pyramid, {"coarsest": True}, "strides has 4 entries and coarsest adds a map but anchor_sizes has 4"),
        (Pyramid, {"strides": (8, 4, 16, 32)}, r"strides is \(8, 4, 16, 32\) but must rise"),
        (Pyramid, {"channels": 0}, "channels is 0 but must be at least 1"),
        (Pyramid, {"anchor_sizes": (0, 8, 16, 32)}, "anchor_sizes is .* but must be at least 1"),
        (Pyramid, {"short_side": 0}, "short_side is 0 but must be at least 1"),
        (Proposals, {"train": 0}, "train and test are 0 and 2000 but must be at least 1"),
        (Proposals, {"before_nms": 0}, "before_nms is 0 but must be at least 1"),
        (Proposals, {"nms_iou": 0.0}, "nms_iou is 0.0 but must be above 0"),
        (RoiHead, {"canonical_scale": 0}, "canonical_scale is 0 but must be at least 1"),
        (RoiHead, {"widths": ()}, r"widths is \(\) but must hold widths"),
        (DetectionFilter, {"nms": "soft_gaussian"}, "nms is 'soft_gaussian' but must be 'nms' or 'soft_linear'"),
        (DetectionFilter, {"nms_iou": 1.5}, r"nms_iou is 1.5 but must be in \[0, 1\]"),
        (DetectionFilter, {"score_threshold": 1.0}, "score_threshold is 1.0 but must be at least 0 and below 1"),
        (DetectionFilter, {"max_detections": 0}, "max_detections is 0 but must be at least 1"),
        (DetectionFilter, {"objectness": -1.0}, "objectness is -1.0 but must be at least 0"),
    ],
)
def test_bad_settings_are_named(group, changes, message):
    with pytest.raises(ValueError, match=message):
        group(**changes)
