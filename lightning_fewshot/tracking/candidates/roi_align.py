"""Adaptive RoIAlign (Jung et al., "Real-time MDNet", ECCV 2018, section 3.2), in plain PyTorch, for CPU and GPU.

RoIAlign interpolates between neighbouring cells of a feature map. Where a region is large its samples lie many cells
apart, and most cells would be ignored; the adaptive layer interpolates between cells that lie ``s`` apart, where s is
the rounded distance of two samples. 7 x 7 samples are then max-pooled to 3 x 3.

Shapes: N maps, R regions of each, C channels, H W cells, G samples along one side.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from lightning_fewshot.tracking.candidates.pooling import max_pool

GRID = 7  # 3 + 4: what a 3/2 max pooling reduces to 3
POOLED = 3


def adaptive_roi_align(maps: Tensor, regions: Tensor, grid: int = GRID) -> Tensor:
    """Sample every region at ``grid`` x ``grid`` points, interpolating over a distance that grows with the region.

    Along one axis, from ``start`` to ``end``: samples lie at ``start + g * bin``, ``bin = (end - start + 1) / grid``;
    sample x is the mean of the cells ``floor(x)`` and ``floor(x) + s`` with the weights ``1 - |x - cell| / s``,
    ``s = max(1, round(bin))``. Cells outside the map are zero.

    Args:
        maps: ``(N, C, H, W)``.
        regions: ``(N, R, 4)``: first and last cell, ``(x1, y1, x2, y2)``, fractions of cells allowed; regions of map n.
        grid: G.

    Returns:
        ``(N, R, C, G, G)``, differentiable in ``maps``, and in ``regions`` between the steps of floor and round.

    Raises:
        ValueError: The shapes do not fit.

    >>> maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> adaptive_roi_align(maps, torch.tensor([[[0.0, 0.0, 3.0, 3.0]]]), grid=2)[0, 0, 0].tolist()
    [[0.0, 2.0], [8.0, 10.0]]
    """
    if maps.ndim != 4 or regions.ndim != 3 or regions.shape[2] != 4 or len(maps) != len(regions):
        shapes = f"{tuple(maps.shape)} and {tuple(regions.shape)}"
        raise ValueError(f"maps and regions have shapes {shapes}, expected (N, C, H, W) and (N, R, 4)")
    n, channels, height, width = maps.shape
    (cells_x, weights_x), (cells_y, weights_y) = _taps(regions, grid, (width, height))  # (N, R, G, 2)
    first = torch.arange(n, device=maps.device).view(n, 1, 1, 1) * (height * width)
    cells = _rows_and_columns(cells_y * width + first, cells_x, torch.add)  # (N, R, G, G, 4)
    weights = _rows_and_columns(weights_y, weights_x, torch.mul)
    rows = maps.permute(0, 2, 3, 1).reshape(-1, channels).contiguous()  # one map reshapes to a view, four times slower
    samples = embedding_bag(
        cells.reshape(-1, 4), rows, mode="sum", per_sample_weights=weights.reshape(-1, 4).to(rows.dtype)
    )
    return samples.view(n, -1, grid, grid, channels).permute(0, 1, 4, 2, 3)


def pooled_regions(maps: Tensor, regions: Tensor) -> Tensor:
    """Describe every region by 3 x 3 cells: adaptive RoIAlign at 7 x 7, then max pooling 3/2.

    Args:
        maps: ``(N, C, H, W)``.
        regions: ``(N, R, 4)`` in cells.

    Returns:
        ``(N, R, C * 9)``, the nine cells of a channel together.
    """
    samples = adaptive_roi_align(maps, regions)
    pooled = max_pool(samples.flatten(0, 1))
    return pooled.reshape(*regions.shape[:2], maps.shape[1] * POOLED * POOLED)


def _rows_and_columns(rows: Tensor, columns: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine the two values of every row with those of every column, ``(N, R, G, 2)`` each: ``(N, R, G, G, 4)``.

    Both are made four long before: loops over two elements take four times as long.
    """
    rows = rows[..., None].expand(*rows.shape, 2).flatten(-2)  # a, a, b, b
    columns = torch.cat((columns, columns), dim=-1)  # a, b, a, b
    return combine(rows[:, :, :, None], columns[:, :, None])


def _taps(regions: Tensor, grid: int, limits: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Return the two cells of every sample and their weights, ``(N, R, G, 2)`` each: along x, then along y."""
    start, end = regions.split(2, dim=-1)  # (N, R, 2)
    bins = (end - start + 1).clamp(min=0) / grid
    step = bins.detach().round().clamp(min=1)[..., None]
    points = start[..., None] + bins[..., None] * torch.arange(grid, device=start.device, dtype=start.dtype)
    low = points.detach().floor()
    far = (points - low) / step
    cells = torch.stack((low, low + step), dim=-1).unbind(2)
    weights = torch.stack((1 - far, far), dim=-1).unbind(2)
    return [
        (c.clamp(0, limit - 1).long(), w * ((c >= 0) & (c < limit)))
        for c, w, limit in zip(cells, weights, limits, strict=True)
    ]
