"""Box regression by ridge regression, learned once in the first frame (R-CNN's targets, RT-MDNet's numbers).

Shapes: n samples, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ALPHA, NORM = 1000.0, 20.0  # R-CNN's weight of the penalty belongs to features of this mean length
LEAST_OVERLAP = 0.6  # of a box with what it becomes; else it stays what it is
AREAS = (1.0, 2.0)  # of a sample, as multiples of the target's: the authors' boxes only ever shrink


class Ridge(NamedTuple):
    """A linear map with intercept, ``(F, 4)`` and ``(4,)``, and the areas of the samples it was learned from."""

    weight: Tensor
    bias: Tensor
    areas: tuple[float, float] = AREAS


def fit_ridge(features: Tensor, target: Tensor, alpha: float = ALPHA) -> Ridge:
    """Minimise ``|X W + b - Y|^2 + alpha |W|^2`` in closed form, over samples where there are fewer than features.

    Args:
        features: X, ``(n, F)``.
        target: Y, ``(n, 4)``.
        alpha: Weight of the penalty, positive.

    >>> x = torch.tensor([[-1.0], [1.0]])
    >>> fit_ridge(x, 3 * x.expand(2, 4), alpha=1.0).weight.tolist()
    [[2.0, 2.0, 2.0, 2.0]]
    """
    mean_x, mean_y = features.mean(0), target.mean(0)
    x, y = (features - mean_x).double(), (target - mean_y).double()
    n, width = x.shape
    eye = alpha * torch.eye(min(n, width), dtype=x.dtype, device=x.device)
    few = n < width
    weight = x.T @ torch.linalg.solve(x @ x.T + eye, y) if few else torch.linalg.solve(x.T @ x + eye, x.T @ y)
    weight = weight.to(features.dtype)
    return Ridge(weight, mean_y - mean_x @ weight)


def encode(boxes: Tensor, target: Tensor) -> Tensor:
    """Return what leads from boxes ``(n, 4)`` to targets ``(n, 4)``: shifts in sides, logarithms of size ratios.

    >>> encode(torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[5.0, 0.0, 15.0, 10.0]])).tolist()
    [[0.5, 0.0, 0.0, 0.0]]
    """
    size, wanted = boxes[..., 2:] - boxes[..., :2], target[..., 2:] - target[..., :2]
    shift = (target[..., :2] + target[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2 / size
    return torch.cat((shift, (wanted / size).log()), dim=-1)


def decode(boxes: Tensor, code: Tensor, areas: tuple[float, float] = AREAS) -> Tensor:
    """Apply codes ``(n, 4)`` to boxes ``(n, 4)``.

    A box stays where its area, as a multiple of the new one's, would lie outside ``areas``, or where it would overlap
    its old place by an IoU below 0.6.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> decode(boxes, torch.tensor([[0.1, 0.0, 0.0, 0.0]])).tolist(), decode(boxes, torch.full((1, 4), 1.0)).tolist()
    ([[1.0, 0.0, 11.0, 10.0]], [[0.0, 0.0, 10.0, 10.0]])
    """
    size, centre = boxes[..., 2:] - boxes[..., :2], (boxes[..., :2] + boxes[..., 2:]) / 2
    centre, new = centre + code[..., :2] * size, size * code[..., 2:].clamp(-3, 3).exp()
    moved = torch.cat((centre - new / 2, centre + new / 2), dim=-1)
    shrunk = size.prod(-1) / new.prod(-1)
    overlap = torch.minimum(boxes[..., 2:], moved[..., 2:]) - torch.maximum(boxes[..., :2], moved[..., :2])
    common = overlap.clamp(min=0).prod(-1)
    fits = common >= LEAST_OVERLAP * (size.prod(-1) + new.prod(-1) - common)
    fits &= (shrunk >= areas[0] - 1e-4) & (shrunk <= areas[1])  # an area's rounding is no change
    return torch.where(fits[..., None], moved, boxes)


def fit_regression(
    features: Tensor, boxes: Tensor, target: Tensor, alpha: float = ALPHA, areas: tuple[float, float] = AREAS
) -> Ridge:
    """Learn to move samples ``boxes`` ``(n, 4)`` with ``features`` ``(n, F)`` onto the target ``(4,)``.

    Features are scaled to the mean length of R-CNN's first: a penalty that outweighs them leaves the mean of all codes.
    """
    scale = NORM / features.norm(dim=1).mean().clamp(min=1e-6)
    ridge = fit_ridge(features * scale, encode(boxes, target.expand_as(boxes)), alpha)
    return ridge._replace(weight=ridge.weight * scale, areas=areas)


def regress(ridge: Ridge, features: Tensor, boxes: Tensor) -> Tensor:
    """Move boxes ``(n, 4)`` by what their features ``(n, F)`` say."""
    return decode(boxes, features @ ridge.weight + ridge.bias, ridge.areas)
