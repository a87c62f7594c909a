"""Figure 4: tiles with a support image above, its truth in yellow, and the query below, the prediction in red.

The outline of the query's truth is green where it is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d
from torchvision.utils import make_grid

from lightning_fewshot.drawing import TRUTH
from lightning_fewshot.episodes import Episode, Segmentation

SUPPORT, PREDICTION = (250, 220, 0), (230, 30, 30)
SIDE, OUTLINE = 160, 5  # pixels: of a tile, and of the square that widens the truth to its outline (odd)
SHOWN, COLUMNS, ALPHA = 10, 5, 0.5  # tiles at most, tiles in a row, opacity of a mask


def draw_tiles(episode: Episode, preds: Sequence[Segmentation]) -> Tensor:
    """Return one ``(3, H, W)`` uint8 picture with a tile for each of the first query images and its first class."""
    tiles = []
    for i in range(min(SHOWN, len(preds))):
        asked = 0 if episode.query.labels is None else int(episode.query.labels[i])
        shot = episode.support.labels.tolist().index(asked)
        above = overlay(episode.support.images[shot], episode.support.class_masks[shot] == asked + 1, SUPPORT)
        below = overlay(episode.query.images[i], preds[i].masks[0], PREDICTION)
        if episode.query.class_masks is not None:
            below = _outlined(below, episode.query.class_masks[i] == asked + 1)
        tiles.append(torch.cat([above, torch.full((3, 2, SIDE), 255, dtype=torch.uint8), below], dim=1))
    return make_grid(torch.stack(tiles), nrow=COLUMNS, padding=4, pad_value=255)


def overlay(image: Tensor, mask: Tensor, color: tuple[int, int, int]) -> Tensor:
    """Return the image, ``(3, SIDE, SIDE)`` uint8, with a mask ``(H, W)`` laid over it."""
    picture = _square(image.cpu().expand(3, -1, -1), "bilinear")
    inside = _square(mask.cpu()[None], "nearest")[0] > 0.5
    tint = torch.tensor(color, dtype=torch.float32)[:, None, None]
    return torch.where(inside, (1 - ALPHA) * picture + ALPHA * tint, picture).round().to(torch.uint8)


def _outlined(picture: Tensor, mask: Tensor) -> Tensor:
    inside = _square(mask.cpu()[None], "nearest")
    wide = max_pool2d(inside, OUTLINE, 1, OUTLINE // 2) > 0.5
    border = (wide & (inside <= 0.5))[0]
    return torch.where(border, torch.tensor(TRUTH, dtype=torch.uint8)[:, None, None], picture)


def _square(image: Tensor, mode: str) -> Tensor:
    """Scale ``(C, H, W)`` to a square of SIDE pixels, as float."""
    return interpolate(image[None].float(), (SIDE, SIDE), mode=mode)[0]
