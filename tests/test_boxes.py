"""Box geometry against torchvision and by hand."""

import pytest
import torch
from torchvision.ops import box_convert, box_iou, clip_boxes_to_image

from lightning_fewshot import boxes as bx


def random_boxes(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=g) * 100 - 20
    return torch.cat((corner, corner + torch.rand(*shape, 2, generator=g) * 60), dim=-1)


def test_clip_equals_torchvision():
    boxes = random_boxes(50)
    assert torch.equal(bx.clip(boxes, 40, 70), clip_boxes_to_image(boxes, (40, 70)))


def test_formats_equal_torchvision_and_return():
    boxes = random_boxes(5, 4)
    xywh = bx.xyxy_to_xywh(boxes)
    assert torch.allclose(xywh, box_convert(boxes, "xyxy", "xywh"))
    assert torch.allclose(bx.xywh_to_xyxy(xywh), boxes, atol=1e-4)


def test_iou_equals_torchvision_image_by_image():
    boxes, others = random_boxes(3, 6), random_boxes(3, 2, seed=1)
    expected = torch.stack([box_iou(a, b) for a, b in zip(boxes, others, strict=True)])
    assert torch.equal(bx.iou(boxes, others), expected)
    assert torch.equal(bx.iou(boxes[None], others[None])[0], expected)
    assert bx.iou(boxes[0], others[0, :0]).shape == (6, 0)
    assert bx.iou(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_valid():
    bad = torch.tensor([[0, 0, 0, 5], [3, 0, 2, 5], [0, 0, float("inf"), 1], [0, 0, 2, 2]], dtype=torch.float32)
    assert bx.valid(bad).tolist() == [False, False, False, True]
    assert not bx.valid(bad, min_size=2).any()


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([5, 0, 1, 2], r"boxes of x\.jpg: box 1 is \(5, 0, 1, 2\), but x1 < x2"),
        ([0, 0, 0, 2], "x1 < x2 and y1 < y2"),
        ([0, 0, float("nan"), 2], "must be finite"),
        ([0, 0, 30, 2], r"inside the image of 20 x 10 pixels"),
        ([-1, 0, 3, 2], r"inside the image"),
    ],
)
def test_check_names_the_box(box, message):
    boxes = torch.tensor([[0, 0, 1, 1], box], dtype=torch.float32)
    with pytest.raises(ValueError, match=message):
        bx.check(boxes, "boxes of x.jpg", height=10, width=20)


def test_check_passes_good_boxes_and_none():
    good = torch.tensor([[0.0, 0.0, 20.0, 10.0]])
    assert bx.check(good, height=10, width=20) is good
    assert len(bx.check(torch.zeros(0, 4))) == 0
    with pytest.raises(ValueError, match=r"shape \(4,\), expected \(M, 4\)"):
        bx.check(good[0])


def test_scale():
    assert bx.scale(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 2.0).tolist() == [[2.0, 4.0, 6.0, 8.0]]
