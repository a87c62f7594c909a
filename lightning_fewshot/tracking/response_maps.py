"""Response maps between their cells: finer ones, single places, and the cosine window.

Shapes: R cells of a response's side.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate


def finer(response: Tensor, factor: int) -> Tensor:
    """Return a response ``(R, R)`` with cells ``factor`` times as fine, bicubic, and nothing below 0.

    >>> finer(torch.eye(3), 2).shape
    torch.Size([6, 6])
    """
    if factor == 1:
        return response
    down, across = (_bicubic(side, factor) for side in response.shape)
    return (down @ response @ across.T).clamp(min=0)


def response_at(response: Tensor, offset: Tensor) -> float:
    """Return a response between its cells, bilinear; minus infinity outside of them.

    Args:
        response: ``(R, R)``.
        offset: ``(2,)`` (x, y) from the middle, in cells.

    >>> response = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
    >>> [response_at(response, torch.tensor([x, 0.0])) for x in (0.0, 0.5, 1.5, 1.6)]
    [1.0, 2.0, 3.0, -inf]
    """
    place = offset * 2 / response.shape[1]
    if not bool((place.abs() <= 1).all()):
        return -inf
    maps, places = response[None, None], place.to(response).reshape(1, 1, 1, 2)
    return grid_sample(maps, places, padding_mode="border", align_corners=False).item()


def cosine_window(side: int) -> Tensor:
    """Return the Hann window ``(side, side)`` with a sum of 1.

    >>> cosine_window(3).diagonal().tolist()
    [0.0625, 0.25, 0.0625]
    """
    line = torch.hann_window(side + 2, periodic=False, dtype=torch.float32)[1:-1]
    window = line[:, None] * line
    return window / window.sum()


@lru_cache(8)
def _bicubic(side: int, factor: int) -> Tensor:
    """Return the matrix ``(factor * side, side)`` that interpolates a line; two products are eight times as fast."""
    lines = torch.eye(side, dtype=torch.float32)[None, None]
    return interpolate(lines, scale_factor=(float(factor), 1.0), mode="bicubic")[0, 0]
