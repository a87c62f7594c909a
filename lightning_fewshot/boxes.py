"""Box geometry. A box is ``(x1, y1, x2, y2)`` in float pixels, no "+1"; any other format says so in its name.

Shapes: M and N boxes, ``...`` any leading dimensions, also none. Nothing here changes its arguments.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """Move what lies outside an image onto its border.

    Args:
        boxes: ``(..., 4)`` in pixels.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        ``(..., 4)``, x in [0, width] and y in [0, height]. A box that lay wholly outside is now empty: see ``valid``.

    >>> clip(torch.tensor([[-5.0, 2.0, 30.0, 8.0]]), height=10, width=20).tolist()
    [[0.0, 2.0, 20.0, 8.0]]
    """
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)


def valid(boxes: Tensor, min_size: float = 0.0) -> Tensor:
    """Tell which boxes are finite, not inverted and wider and higher than ``min_size`` pixels.

    Returns:
        ``(...)`` bool.

    >>> valid(torch.tensor([[0.0, 0.0, 2.0, 2.0], [5.0, 0.0, 1.0, 2.0], [0.0, 0.0, 3.0, float("nan")]])).tolist()
    [True, False, False]
    """
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes.isfinite().all(-1) & (sizes > min_size).all(-1)


def check(boxes: Tensor, name: str = "boxes", height: float | None = None, width: float | None = None) -> Tensor:
    """Return ``boxes`` as they are, or say what is wrong with the first bad one.

    Args:
        boxes: ``(M, 4)`` in pixels.
        name: What the error calls them, such as ``"boxes of dog_12.jpg"``.
        height: With ``width``: a box must lie inside an image of this size.
        width: See ``height``.

    Raises:
        ValueError: The shape is not ``(M, 4)``; or a box is not finite, is inverted or empty, or leaves the image.

    >>> check(torch.tensor([[0.0, 0.0, 2.0, 2.0], [5.0, 0.0, 1.0, 2.0]]), name="boxes of dog_12.jpg")
    Traceback (most recent call last):
    ValueError: boxes of dog_12.jpg: box 1 is (5, 0, 1, 2), but x1 < x2 and y1 < y2 must hold
    """
    if boxes.ndim != 2 or boxes.shape[-1] != 4:
        raise ValueError(f"{name} have shape {tuple(boxes.shape)}, expected (M, 4)")
    _refuse(boxes, ~boxes.isfinite().all(-1), name, "all four numbers must be finite")
    _refuse(boxes, ~valid(boxes), name, "x1 < x2 and y1 < y2 must hold")
    if height is not None and width is not None:
        outside = (clip(boxes, height, width) != boxes).any(-1)
        _refuse(boxes, outside, name, f"it must lie inside the image of {width:g} x {height:g} pixels (width x height)")
    return boxes


def xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """Convert ``(x1, y1, width, height)``, COCO's format, to ``(x1, y1, x2, y2)``.

    >>> xywh_to_xyxy(torch.tensor([[1.0, 2.0, 10.0, 20.0]])).tolist()
    [[1.0, 2.0, 11.0, 22.0]]
    """
    corner, size = boxes_xywh.split(2, dim=-1)
    return torch.cat((corner, corner + size), dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Convert ``(x1, y1, x2, y2)`` to ``(x1, y1, width, height)``, COCO's format.

    >>> xyxy_to_xywh(torch.tensor([[1.0, 2.0, 11.0, 22.0]])).tolist()
    [[1.0, 2.0, 10.0, 20.0]]
    """
    corner, end = boxes.split(2, dim=-1)
    return torch.cat((corner, end - corner), dim=-1)


def scale(boxes: Tensor, scale_y: float, scale_x: float | None = None) -> Tensor:
    """Follow an image that is resized: multiply y by ``scale_y`` and x by ``scale_x`` (None: the same factor).

    >>> scale(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), scale_y=10, scale_x=2).tolist()
    [[2.0, 20.0, 6.0, 40.0]]
    """
    scale_x = scale_y if scale_x is None else scale_x
    return boxes * boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])


def polygon_boxes(polygons: Tensor) -> Tensor:
    """Return the upright boxes ``(T, 4)`` with centre and area of polygons ``(T, 8)``, which trackers start from.

    The sides keep the ratio of the bounding box. An upright rectangle stays what it is.

    >>> upright, rhombus = [0.0, 0.0, 4.0, 0.0, 4.0, 2.0, 0.0, 2.0], [2.0, 0.0, 4.0, 2.0, 2.0, 4.0, 0.0, 2.0]
    >>> polygon_boxes(torch.tensor([upright, rhombus]))
    tensor([[0.0000, 0.0000, 4.0000, 2.0000],
            [0.5858, 0.5858, 3.4142, 3.4142]])
    """
    points = polygons.reshape(-1, 4, 2)
    sizes = points.amax(1) - points.amin(1)
    x, y = points.unbind(2)
    area = ((x * y.roll(-1, 1) - y * x.roll(-1, 1)).sum(1) / 2).abs()
    half = sizes * (area / sizes.prod(1)).sqrt()[:, None] / 2
    centre = points.mean(1)
    return torch.cat((centre - half, centre + half), dim=1)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of all pairs, for a whole batch of images at once.

    The same as torchvision's ``box_iou``, which older versions do not compute for batches.

    Args:
        boxes: ``(..., M, 4)``.
        others: ``(..., N, 4)`` with the same leading dimensions.

    Returns:
        ``(..., M, N)`` in [0, 1], at least float32. Two empty boxes have IoU 0: 0 / 0.

    >>> others = torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    >>> iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), others).round(decimals=3)
    tensor([[0.3330, 0.0000]])
    """
    first, second = (b if b.dtype in (torch.float32, torch.float64) else b.float() for b in (boxes, others))
    areas, other_areas = ((b[..., 2:] - b[..., :2]).prod(-1) for b in (first, second))
    first, second = first[..., :, None, :], second[..., None, :, :]
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    shared = sides.clamp(min=0).prod(-1)  # (..., M, N)
    return (shared / (areas[..., :, None] + other_areas[..., None, :] - shared)).nan_to_num(nan=0.0)


def _refuse(boxes: Tensor, bad: Tensor, name: str, rule: str) -> None:
    """Raise for the first box that ``bad`` marks."""
    if bad.any():
        i = int(bad.nonzero()[0])
        numbers = ", ".join(f"{v:g}" for v in boxes[i].tolist())
        raise ValueError(f"{name}: box {i} is ({numbers}), but {rule}")
