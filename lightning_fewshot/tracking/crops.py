"""Windows of a frame as square crops: exemplars with a context margin, search windows at several scales.

A window is a box ``(x1, y1, x2, y2)`` in float pixels of the frame, where pixel i covers [i, i + 1). A crop of ``size``
pixels samples the window at the centres of ``size`` x ``size`` equal cells, bilinearly, so that a window moved by a
fraction of a pixel gives another crop. What lies outside the frame has one color (SiamFC: the mean of the image).
Frames that would be reduced by two or more are averaged in square blocks first, so that nothing aliases.

Section 3.3 of Learnet: an exemplar "double the size" of the box becomes 127 pixels, a search patch "four times bigger"
255 pixels. For a box of w x h the side is ``sqrt((w + p) (h + p))``, ``p = context * (w + h)`` with context 1/2
(Bertinetto et al. 2016, "Fully-convolutional siamese networks", section 2.4), twice the side of a square box.

Shapes: N windows, S pixels of a crop's side, (3, H, W) a frame, ``...`` any leading dimensions, also none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

EXEMPLAR, SEARCH = 127, 255  # pixels (Learnet section 3.3; MLT section 3.2.1)
CONTEXT = 0.5


@dataclass(frozen=True)
class CropSettings:
    """Which crops a tracker cuts; as those it was trained on.

    Args:
        exemplar: Side of an exemplar, in pixels.
        search: Side of a search patch, in pixels at the exemplar's scale; at least that of an exemplar.
        context: Margin of the exemplar, as a share of width plus height, at least 0.

    Raises:
        ValueError: A number is out of range.
    """

    exemplar: int = EXEMPLAR
    search: int = SEARCH
    context: float = CONTEXT

    def __post_init__(self) -> None:
        if self.exemplar < 1:
            raise ValueError(f"exemplar is {self.exemplar} but must be at least 1 pixel")
        if self.search < self.exemplar:
            raise ValueError(f"search is {self.search} but must be at least {self.exemplar}, the exemplar's side")
        if self.context < 0:
            raise ValueError(f"context is {self.context} but must be at least 0")

    @property
    def ratio(self) -> float:
        """Side of a search window over side of an exemplar window, so that both show the target at one size."""
        return self.search / self.exemplar


def context_side(boxes: Tensor, context: float = CONTEXT) -> Tensor:
    """Return the side of the square around a box that shows some of its context.

    Args:
        boxes: ``(..., 4)``.
        context: Margin, as a share of width plus height.

    Returns:
        ``(...)`` pixels of the frame.

    >>> context_side(torch.tensor([[0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 10.0, 30.0]])).tolist()
    [80.0, 38.72983169555664]
    """
    sizes = boxes[..., 2:] - boxes[..., :2]
    return (sizes + context * sizes.sum(-1, keepdim=True)).prod(-1).sqrt()


def centres(boxes: Tensor) -> Tensor:
    """Return the centres ``(..., 2)``, (x, y), of boxes ``(..., 4)``.

    >>> centres(torch.tensor([0.0, 10.0, 4.0, 30.0])).tolist()
    [2.0, 20.0]
    """
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def square_windows(centre: Tensor, sides: Tensor) -> Tensor:
    """Return square windows; the leading dimensions broadcast, so one centre and N sides give N windows.

    Args:
        centre: ``(..., 2)``, (x, y) in pixels.
        sides: ``(...)`` in pixels.

    Returns:
        ``(..., 4)``.

    >>> square_windows(torch.tensor([10.0, 20.0]), torch.tensor([4.0, 8.0])).tolist()
    [[8.0, 18.0, 12.0, 22.0], [6.0, 16.0, 14.0, 24.0]]
    """
    half = sides[..., None] / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def exemplar_windows(boxes: Tensor, context: float = CONTEXT) -> Tensor:
    """Return the window ``(..., 4)`` that an exemplar is cut from, around each box ``(..., 4)``.

    >>> exemplar_windows(torch.tensor([30.0, 30.0, 70.0, 70.0])).tolist()
    [10.0, 10.0, 90.0, 90.0]
    """
    return square_windows(centres(boxes), context_side(boxes, context))


def search_windows(
    boxes: Tensor, scales: Tensor | float = 1.0, context: float = CONTEXT, ratio: float = SEARCH / EXEMPLAR
) -> Tensor:
    """Return the windows to search in, around each box: ``ratio`` times the exemplar's side, times each scale.

    Args:
        boxes: ``(..., 4)``.
        scales: ``(N,)``, or one number for one window a box.
        context: As for the exemplar.
        ratio: Side of a search crop over side of an exemplar crop, so that both show the target at one size.

    Returns:
        ``(..., N, 4)``, or ``(..., 4)`` for one number.

    >>> search_windows(torch.tensor([30.0, 30.0, 70.0, 70.0]), torch.tensor([1.0, 2.0]), ratio=2).tolist()
    [[-30.0, -30.0, 130.0, 130.0], [-110.0, -110.0, 210.0, 210.0]]
    """
    sides, centre = ratio * context_side(boxes, context), centres(boxes)
    if isinstance(scales, Tensor):
        sides, centre = sides[..., None] * scales.to(sides), centre[..., None, :]
    else:
        sides = sides * scales
    return square_windows(centre, sides)


def mean_color(frame: Tensor) -> Tensor:
    """Return the mean color ``(3,)`` of a frame ``(3, H, W)`` in [0, 255]."""
    return frame.float().mean((1, 2))


def crop(frame: Tensor, windows: Tensor, size: int, fill: Tensor | None = None) -> Tensor:
    """Cut windows out of a frame, all in one operation.

    Args:
        frame: ``(3, H, W)`` uint8 or float; its device is where the work is done.
        windows: ``(N, 4)`` in pixels of the frame; they may leave it, or lie outside. The smallest of
            them decides in how large blocks the frame is averaged first.
        size: S, pixels.
        fill: ``(3,)`` color of what is outside; None: the frame's mean. A tracker takes it from its first frame.

    Returns:
        ``(N, 3, S, S)`` float32 in the frame's range.

    Raises:
        ValueError: A window is not finite, inverted or empty; or the shapes are others.

    >>> frame = torch.arange(16.0).reshape(1, 4, 4).expand(3, 4, 4)
    >>> crop(frame, torch.tensor([[1.0, 1.0, 3.0, 3.0], [1.5, 1.0, 3.5, 3.0]]), 2)[:, 0].tolist()
    [[[5.0, 6.0], [9.0, 10.0]], [[5.5, 6.5], [9.5, 10.5]]]
    >>> crop(frame, torch.tensor([[-2.0, 0.0, 0.0, 2.0]]), 2, fill=torch.tensor([9.0, 9.0, 9.0]))[0, 0].tolist()
    [[9.0, 9.0], [9.0, 9.0]]
    """
    rows = _checked(frame, windows)
    fill = mean_color(frame) if fill is None else fill.to(frame.device, torch.float32)
    reduced = min((min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in rows), default=size) / size
    block = max(1, int(reduced + 1e-4))  # 1.99999 is a 2 that was rounded
    left, top, region = _region(frame, rows, block, fill)
    grid = _grid(windows, size, left, top, block, region)
    return grid_sample(region.expand(len(windows), -1, -1, -1), grid, align_corners=False).add_(fill[:, None, None])


def to_crop(boxes: Tensor, windows: Tensor, size: float) -> Tensor:
    """Express boxes of the frame in the pixels of crops.

    Args:
        boxes: ``(..., 4)`` in pixels of the frame.
        windows: ``(..., 4)``, what the crops were cut from.
        size: S, pixels.

    >>> to_crop(torch.tensor([20.0, 20.0, 40.0, 30.0]), torch.tensor([10.0, 10.0, 50.0, 50.0]), 80).tolist()
    [20.0, 20.0, 60.0, 40.0]
    """
    scale = size / (windows[..., 2:] - windows[..., :2])
    return (boxes - _twice(windows[..., :2])) * _twice(scale)


def from_crop(boxes: Tensor, windows: Tensor, size: float) -> Tensor:
    """Express boxes of crops in the pixels of the frame: the inverse of :func:`to_crop`.

    >>> from_crop(torch.tensor([20.0, 20.0, 60.0, 40.0]), torch.tensor([10.0, 10.0, 50.0, 50.0]), 80).tolist()
    [20.0, 20.0, 40.0, 30.0]
    """
    scale = (windows[..., 2:] - windows[..., :2]) / size
    return boxes * _twice(scale) + _twice(windows[..., :2])


def _twice(points: Tensor) -> Tensor:
    """Return (x, y, x, y) of points ``(..., 2)``; to index with a list would copy it to a GPU."""
    return torch.cat((points, points), dim=-1)


def _checked(frame: Tensor, windows: Tensor) -> list[list[float]]:
    if frame.ndim != 3 or windows.ndim != 2 or windows.shape[1] != 4:
        shapes = f"{tuple(frame.shape)} and {tuple(windows.shape)}"
        raise ValueError(f"frame and windows have shapes {shapes}, expected (3, H, W) and (N, 4)")
    rows = windows.tolist()
    for i, (x1, y1, x2, y2) in enumerate(rows):
        if not (x1 < x2 and y1 < y2 and all(map(math.isfinite, (x1, y1, x2, y2)))):
            raise ValueError(f"window {i} is ({x1:g}, {y1:g}, {x2:g}, {y2:g}), but x1 < x2 and y1 < y2 must hold")
    return rows


def _region(frame: Tensor, rows: list[list[float]], block: int, fill: Tensor) -> tuple[int, int, Tensor]:
    """Cut out what the windows touch, minus the fill, in blocks that start at multiples of ``block``.

    Returns:
        Its left and top in pixels, and ``(1, 3, h, w)``; outside of it all is zero.
    """
    height, width = frame.shape[1:]
    left, right = _span([r[0] for r in rows], [r[2] for r in rows], width, block)
    top, bottom = _span([r[1] for r in rows], [r[3] for r in rows], height, block)
    region = frame[:, top:bottom, left:right].float() - fill[:, None, None]
    if block > 1:
        beyond = (0, -region.shape[2] % block, 0, -region.shape[1] % block)
        region = avg_pool2d(torch.nn.functional.pad(region, beyond), block)
    return left, top, region[None]


def _span(low: list[float], high: list[float], limit: int, block: int) -> tuple[int, int]:
    """Return where a region starts and ends: at least one pixel, a margin of one block, within [0, limit]."""
    first = math.floor(min(low, default=0.0) / block - 1) * block
    last = math.ceil(max(high, default=1.0) / block + 1) * block
    start = min(max(first, 0), (limit - 1) // block * block)
    return start, max(min(last, limit), start + 1)


def _grid(windows: Tensor, size: int, left: int, top: int, block: int, region: Tensor) -> Tensor:
    """Return where to sample, ``(N, S, S, 2)``, in the coordinates of ``grid_sample`` without aligned corners."""
    windows = windows.double()
    cells = (torch.arange(size, dtype=torch.float64, device=windows.device) + 0.5) / size
    points = windows[:, :2, None] + (windows[:, 2:] - windows[:, :2])[..., None] * cells  # (N, 2, S)
    origin, extent = points.new_tensor([left, top]), points.new_tensor([region.shape[3], region.shape[2]])
    points = (2 * (points - origin[:, None]) / (block * extent[:, None]) - 1).float()
    points = points.to(region.device, non_blocking=True)
    shape = (len(windows), size, size)
    return torch.stack((points[:, 0, None, :].expand(shape), points[:, 1, :, None].expand(shape)), dim=-1)
