"""Cross-correlation of an exemplar's features with larger maps, and which cell of the response is which place.

Fully-convolutional matching (Bertinetto et al. 2016, "Fully-convolutional siamese networks", eq. 2; Learnet section
3.3; MLT eq. 1): the response at cell p compares the exemplar with the subwindow of the search patch that starts
``stride * p`` pixels from its corner.

Shapes: P exemplars, R search patches of each, K channels, (h, w) the exemplar's map, (H, W) the search patch's,
(H', W') = (H - h + 1, W - w + 1) the response.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from lightning_fewshot.nn.dynamic import dynamic_depthwise_conv2d


def cross_correlation(exemplars: Tensor, maps: Tensor) -> Tensor:
    """Correlate every map with the features of its exemplar.

    Args:
        exemplars: ``(P, K, h, w)``.
        maps: ``(P * R, K, H, W)``; maps ``p * R`` to ``p * R + R - 1`` belong to exemplar ``p``.

    Returns:
        ``(P, R, H', W')``: the sum over channels and cells of the products.

    Raises:
        ValueError: The number of maps is not a multiple of the number of exemplars, the channels differ, or an
            exemplar is larger than a map.

    >>> maps = torch.arange(9.0).view(1, 1, 3, 3)
    >>> cross_correlation(torch.ones(1, 1, 2, 2), maps).tolist()
    [[[[8.0, 12.0], [20.0, 24.0]]]]
    """
    count = len(exemplars)
    fits = exemplars.shape[2] <= maps.shape[2] and exemplars.shape[3] <= maps.shape[3]
    if exemplars.shape[1] != maps.shape[1] or not fits:
        raise ValueError(f"exemplars {tuple(exemplars.shape)} do not fit into maps {tuple(maps.shape)}")
    if count == 1:
        return conv2d(maps, exemplars.to(maps.dtype)).transpose(0, 1)
    return dynamic_depthwise_conv2d(maps, exemplars.to(maps.dtype)).sum(1).unflatten(0, (count, -1))


def target_cells(boxes: Tensor, exemplar: int, stride: int) -> Tensor:
    """Return which cell of the response compares the exemplar with each box.

    Cell i covers pixels ``stride * i`` to ``stride * i + exemplar`` of the search patch, so its middle is
    ``stride * i + exemplar / 2``.

    Args:
        boxes: ``(B, 4)`` in pixels of the search patch.
        exemplar: Side of the exemplar crop, in pixels.
        stride: Pixels from cell to cell.

    Returns:
        ``(B, 2)`` (x, y), in cells, with fractions.

    >>> target_cells(torch.tensor([[107.5, 107.5, 147.5, 155.5]]), 127, 8).tolist()
    [[8.0, 8.5]]
    """
    return ((boxes[:, :2] + boxes[:, 2:]) / 2 - exemplar / 2) / stride


def cell_coverage(cells: Tensor, size: int, width: float) -> Tensor:
    """Return how much of every cell a square of ``width`` x ``width`` cells around a place covers.

    Args:
        cells: ``(B, 2)`` (x, y), the middle of the square in cells.
        size: Cells of a side of the response.
        width: Side of the square, in cells.

    Returns:
        ``(B, size, size)`` in [0, 1].

    >>> cell_coverage(torch.tensor([[1.0, 0.5]]), 3, 2.0)[0].tolist()
    [[0.5, 1.0, 0.5], [0.5, 1.0, 0.5], [0.0, 0.0, 0.0]]
    """
    middle = torch.arange(size, device=cells.device, dtype=cells.dtype)
    shares = ((1 + width) / 2 - (middle - cells[..., None]).abs()).clamp(0, min(1.0, width))  # (B, 2, size)
    return shares[:, 1, :, None] * shares[:, 0, None, :]
