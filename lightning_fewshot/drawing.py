"""Pictures of an episode: its support, its queries with the truth, and what was predicted.

Green is the truth, orange a prediction; pictures are enlarged so that small images can be read.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision.ops import nms
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks, make_grid

from lightning_fewshot.episodes import VOID, Detections, Episode, Examples, Segmentation

TRUTH, PREDICTION = (60, 200, 80), (255, 140, 0)
SIDE = 224  # pixels of the longer side of one picture
COLUMNS = 5
SHOWN_QUERIES, SHOWN_SUPPORT = 10, 10
SHOWN_DETECTIONS = 5  # of each image, the best scores
SHOWN_IOU = 0.5  # of boxes that overlap more, whatever their classes, the best one is shown


def draw_episode(episode: Episode, preds: Sequence[Any] | None) -> Tensor:
    """Return one ``(3, H, W)`` uint8 picture: the support above, the queries below."""
    rows = []
    if episode.support is not None:
        rows.append(_grid(draw_examples(episode.support, episode.classes, limit=SHOWN_SUPPORT)))
    rows.append(_grid(draw_examples(episode.query, episode.classes, preds, SHOWN_QUERIES)))
    width = max(row.shape[-1] for row in rows)
    rows = [pad(row, (0, width - row.shape[-1]), value=255) for row in rows]
    line = torch.full((3, 6, width), 255, dtype=torch.uint8)
    return torch.cat([part for row in rows for part in (row, line)][:-1], dim=1)


def draw_examples(
    examples: Examples, classes: Sequence[str], preds: Sequence[Any] | None = None, limit: int = 10
) -> list[Tensor]:
    """Return a picture of each of the first ``limit`` images, with truth and prediction drawn into it."""
    pictures = []
    for i in range(min(limit, len(examples.images))):
        picture, scale = _enlarge(examples.images[i].cpu())
        if examples.class_masks is not None:
            values = examples.class_masks[i].cpu()
            picture = _draw_masks(picture, ((values > 0) & (values != VOID))[None])
        if examples.instance_masks is not None and len(examples.instance_masks[i]):
            picture = _draw_masks(picture, examples.instance_masks[i].cpu())
        if examples.boxes is not None:
            names = [classes[label] for label in examples.labels[i].tolist()]
            picture = _draw_boxes(picture, examples.boxes[i].cpu() * scale, names, TRUTH)
        if preds is not None and isinstance(preds[i], Detections):
            best = _best(Detections(*(part.cpu() for part in preds[i])))
            names = [f"{classes[c]} {s:.2f}" for c, s in zip(best.labels.tolist(), best.scores.tolist(), strict=True)]
            picture = _draw_boxes(picture, best.boxes * scale, names, PREDICTION)
        if preds is not None and isinstance(preds[i], Segmentation):
            picture = _draw_masks(picture, preds[i].masks.cpu(), mask_colors(len(preds[i].masks)))
        pictures.append(picture)
    return pictures


def write_png(picture: Tensor, path: Path) -> None:
    """Write a ``(3, H, W)`` uint8 RGB picture."""
    if not cv2.imwrite(str(path), picture.permute(1, 2, 0).flip(-1).contiguous().numpy()):
        raise OSError(f"cannot write the picture {path}")


def write_mask(label_map: Tensor, path: Path) -> None:
    """Write a ``(H, W)`` uint8 map of classes as a palette PNG: the values are the classes, and each has a colour."""
    from PIL import Image

    image = Image.fromarray(label_map.cpu().numpy()).convert("P")
    image.putpalette([0, 0, 0, *(channel for color in mask_colors(255) for channel in color)])
    image.save(path)


def mask_colors(n: int) -> list[tuple[int, int, int]]:
    """Return n colours that differ; the first is that of predictions."""
    hues = [(0.09 + 0.381966 * i) % 1 for i in range(n)]  # the golden angle apart
    rgb = [colorsys.hsv_to_rgb(hue, 1 - 0.4 * (i // 8 % 2), 1 - 0.3 * (i // 16 % 2)) for i, hue in enumerate(hues)]
    return [PREDICTION, *(tuple(round(255 * c) for c in color) for color in rgb[1:])][:n]


def _best(found: Detections) -> Detections:
    kept = nms(found.boxes.float(), found.scores.float(), SHOWN_IOU)[:SHOWN_DETECTIONS]
    return Detections(*(part[kept] for part in found))


def _draw_boxes(picture: Tensor, boxes: Tensor, names: list[str], color: tuple[int, int, int]) -> Tensor:
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    names = [name for name, keep in zip(names, kept.tolist(), strict=True) if keep]
    if not names:
        return picture
    return draw_bounding_boxes(picture, boxes[kept], labels=names, colors=color, width=2)


def _draw_masks(picture: Tensor, masks: Tensor, colors: Sequence[tuple[int, int, int]] | None = None) -> Tensor:
    masks = interpolate(masks[None].float(), picture.shape[-2:])[0] > 0.5
    return draw_segmentation_masks(picture, masks, alpha=0.35, colors=list(colors or [TRUTH] * len(masks)))


def _enlarge(image: Tensor) -> tuple[Tensor, float]:
    image = image.expand(3, -1, -1) if image.shape[0] == 1 else image
    scale = SIDE / max(image.shape[-2:])
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    return interpolate(image[None].float(), size, mode="bilinear")[0].round().to(torch.uint8), scale


def _grid(pictures: list[Tensor]) -> Tensor:
    pictures = [pad(p, (0, SIDE - p.shape[-1], 0, SIDE - p.shape[-2]), value=255) for p in pictures]
    return make_grid(torch.stack(pictures), nrow=COLUMNS, padding=4, pad_value=255)
