"""Boxes around a target: candidates, positive and negative samples (MDNet's samplers, with RT-MDNet's numbers).

All boxes of a batch are drawn at once. A sample has the aspect ratio of its target, times ``aspect``; displacements
are multiples of the target's mean side.

Shapes: B targets (one a frame), n samples of each; boxes in pixels of their frame.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lightning_fewshot.boxes import iou

OVERSAMPLED = 4  # draws for each sample that has to overlap the target by a given amount
POSITIVE_OVERLAP = (0.7, 1.0)
ONLINE_NEGATIVES = {"spread": 1.5, "scale": 1.2, "aspect": 1.0, "overlap": 0.3}  # RT-MDNet's, of a tracked frame
PARTS = 0.4  # side of a part of the target that stands for a negative where none fits: IoU at most 0.16


def gaussian_boxes(
    boxes: Tensor, n: int, spread: float, scale: float, generator: Generator, aspect: float = 1.0
) -> Tensor:
    """Draw boxes near each target: normal displacement and size, both cut at two standard deviations.

    Args:
        boxes: ``(B, 4)``.
        n: Samples of each.
        spread: Largest displacement, in mean sides of the target.
        scale: Largest factor of the size.
        generator: On the CPU.
        aspect: Largest factor between width and height.

    Returns:
        ``(B, n, 4)``.

    >>> drawn = gaussian_boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), 100, 0.5, 1.0, torch.Generator().manual_seed(0))
    >>> bool((drawn[0, :, :2].abs() <= 5).all()), drawn.shape
    (True, torch.Size([1, 100, 4]))
    """
    noise = (0.5 * torch.randn(len(boxes), n, 4, generator=generator)).clamp(-1, 1)
    return _displaced(boxes, noise.to(boxes.device, non_blocking=True), spread, scale, aspect)


def uniform_boxes(
    boxes: Tensor, n: int, spread: float, scale: float, generator: Generator, aspect: float = 1.0
) -> Tensor:
    """Draw boxes around each target with uniform displacement and size; arguments as in :func:`gaussian_boxes`.

    >>> drawn = uniform_boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), 100, 1.0, 2.0, torch.Generator().manual_seed(0))
    >>> sizes = drawn[0, :, 2] - drawn[0, :, 0]
    >>> bool((sizes >= 5).all() & (sizes <= 20).all())
    True
    """
    noise = 2 * torch.rand(len(boxes), n, 4, generator=generator) - 1
    return _displaced(boxes, noise.to(boxes.device, non_blocking=True), spread, scale, aspect)


def positive_boxes(boxes: Tensor, n: int, generator: Generator) -> Tensor:
    """Draw boxes that overlap their target by an IoU of 0.7 or more.

    Args:
        boxes: ``(B, 4)``. They may leave the frame: so may the samples.
        n: Samples of each.
        generator: On the CPU.

    Returns:
        ``(B, n, 4)``; the target itself fills up what does not overlap enough.
    """
    draws = gaussian_boxes(boxes, OVERSAMPLED * n, 0.1, 1.2, generator)
    return _fitting(draws, boxes, n, POSITIVE_OVERLAP, boxes[:, None].expand(-1, n, -1))


def negative_boxes(
    boxes: Tensor,
    n: int,
    limits: Tensor,
    generator: Generator,
    spread: float = 1.0,
    scale: float = 2.0,
    aspect: float = 1.1,
    overlap: float = 0.5,
) -> Tensor:
    """Draw boxes that overlap their target by an IoU of at most ``overlap``.

    Args:
        boxes: ``(B, 4)``.
        n: Samples of each.
        limits: ``(B, 4)``: every centre lies inside, in the frame and in what the network sees of it.
        generator: On the CPU.
        spread: Largest displacement, in mean sides of the target.
        scale: Largest factor of the size.
        aspect: Largest factor between width and height.
        overlap: Largest IoU.

    Returns:
        ``(B, n, 4)``. Where a target fills its frame, so that nothing beside it fits, parts of the target of 0.4 times
        its size make up the number.

    >>> frame, target = torch.tensor([[0.0, 0.0, 90.0, 90.0]]), torch.tensor([[-200.0, -200.0, 300.0, 300.0]])
    >>> drawn = negative_boxes(target, 50, frame, torch.Generator().manual_seed(0), overlap=0.3)
    >>> drawn.shape, bool((iou(drawn, target[:, None]) <= 0.3).all())
    (torch.Size([1, 50, 4]), True)
    """
    draws = move_inside(uniform_boxes(boxes, OVERSAMPLED * n, spread, scale, generator, aspect), limits)
    return _fitting(draws, boxes, n, (0.0, overlap), _parts(boxes, n, generator))


def overlapping_boxes(boxes: Tensor, n: int, areas: tuple[float, float], generator: Generator) -> Tensor:
    """Draw boxes to learn box regression from: IoU of 0.6 or more, their areas in a range of multiples of the target's.

    Returns:
        ``(B, n, 4)``.
    """
    draws = uniform_boxes(boxes, 2 * OVERSAMPLED * n, 0.3, 1.5, generator, 1.1)
    ratio = (draws[..., 2:] - draws[..., :2]).prod(-1) / (boxes[:, 2:] - boxes[:, :2]).prod(-1, keepdim=True)
    fits = (iou(draws, boxes[:, None])[..., 0] >= 0.6) & (ratio >= areas[0]) & (ratio <= areas[1])
    return _first(draws, fits, n, boxes[:, None].expand(-1, n, -1))


def move_inside(boxes: Tensor, limits: Tensor) -> Tensor:
    """Move boxes ``(B, n, 4)`` so that their centres lie in the limits ``(B, 4)``; sizes stay.

    >>> move_inside(torch.tensor([[[-8.0, 2.0, -4.0, 4.0]]]), torch.tensor([[0.0, 0.0, 9.0, 9.0]])).tolist()
    [[[-2.0, 2.0, 2.0, 4.0]]]
    """
    centre, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    centre = torch.minimum(torch.maximum(centre, limits[:, None, :2]), limits[:, None, 2:])
    return torch.cat((centre - half, centre + half), dim=-1)


def _displaced(boxes: Tensor, noise: Tensor, spread: float, scale: float, aspect: float) -> Tensor:
    """Move and resize boxes by noise ``(B, n, 4)`` in [-1, 1]: x, y, size, aspect."""
    size = (boxes[:, 2:] - boxes[:, :2])[:, None]
    centre = (boxes[:, :2] + boxes[:, 2:])[:, None] / 2 + spread * size.mean(2, keepdim=True) * noise[..., :2]
    stretch = aspect ** noise[..., 3]
    half = size / 2 * (scale ** noise[..., 2])[..., None] * torch.stack((stretch, 1 / stretch), dim=-1)
    return torch.cat((centre - half, centre + half), dim=-1)


def _fitting(draws: Tensor, boxes: Tensor, n: int, overlap: tuple[float, float], instead: Tensor) -> Tensor:
    """Return the first ``n`` draws with an IoU in the range, filled up with ``instead`` ``(B, n, 4)``."""
    overlaps = iou(draws, boxes[:, None])[..., 0]
    return _first(draws, (overlaps >= overlap[0]) & (overlaps <= overlap[1]), n, instead)


def _first(draws: Tensor, fits: Tensor, n: int, instead: Tensor) -> Tensor:
    """Return the first ``n`` draws that fit, ``fits`` ``(B, D)``, filled up with ``instead`` ``(B, n, 4)``."""
    misses = torch.cat((~fits, fits.new_zeros(len(fits), n)), dim=1).byte()
    order = misses.argsort(dim=1, stable=True)[:, :n]
    return torch.cat((draws, instead), dim=1).gather(1, order[..., None].expand(-1, -1, 4))


def _parts(boxes: Tensor, n: int, generator: Generator) -> Tensor:
    size = (boxes[:, 2:] - boxes[:, :2])[:, None]
    places = torch.rand(len(boxes), n, 2, generator=generator).to(boxes.device, non_blocking=True)
    corner = boxes[:, None, :2] + (1 - PARTS) * size * places
    return torch.cat((corner, corner + PARTS * size), dim=-1)
