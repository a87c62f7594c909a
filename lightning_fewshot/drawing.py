"""Pictures of images with boxes, masks and names, legible at any size.

Green is the truth, orange a prediction. Lines and letters grow with the picture, and labels avoid one another.
Pictures are ``(3, H, W)`` uint8 RGB tensors.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision.ops import box_iou, nms
from torchvision.utils import draw_segmentation_masks, make_grid

from lightning_fewshot.episodes import VOID, Detections, Episode, Examples, Segmentation

Color = tuple[int, int, int]
Place = tuple[float, float, float, float]  # x1, y1, x2, y2
TRUTH, PREDICTION = (60, 200, 80), (255, 140, 0)
SIDE = 320  # pixels of the longer side of an image in the picture of an episode
COLUMNS = 5
SHOWN_QUERIES, SHOWN_SUPPORT = 10, 10
SHOWN_DETECTIONS = 20  # of an image, the best scores
SHOWN_IOU = 0.5  # of boxes that overlap more, whatever their classes, the best one is shown
SCORE_THRESHOLD = 0.3  # detections below it are not drawn, but the best one of an image is


def draw_episode(episode: Episode, preds: Sequence[Any] | None) -> Tensor:
    """Return one picture: the support above, the queries below, each with names, truth and prediction."""
    rows = []
    if episode.support is not None:
        rows.append(_grid(draw_examples(episode.support, episode.classes, limit=SHOWN_SUPPORT, side=SIDE)))
    rows.append(_grid(draw_examples(episode.query, episode.classes, preds, SHOWN_QUERIES, side=SIDE)))
    width = max(row.shape[-1] for row in rows)
    rows = [pad(row, (0, width - row.shape[-1]), value=255) for row in rows]
    line = torch.full((3, 6, width), 255, dtype=torch.uint8)
    return torch.cat([part for row in rows for part in (row, line)][:-1], dim=1)


def draw_examples(
    examples: Examples,
    classes: Sequence[str],
    preds: Sequence[Any] | None = None,
    limit: int | None = None,
    side: int | None = None,
) -> list[Tensor]:
    """Return pictures of ``limit`` images, with truth and prediction drawn into them.

    They are the first ones; of images that show one class each, whose order is that of the classes, some of all.

    Args:
        examples: B images and what is known of them.
        classes: Names of the classes.
        preds: One prediction an image: Detections, Segmentation, or scores ``(N,)``.
        limit: None: all images.
        side: Scale images to this longer side, in pixels; None: their own size.
    """
    chosen = _chosen(examples, len(examples.images) if limit is None else min(limit, len(examples.images)))
    return [draw_image(examples, i, classes, None if preds is None else preds[i], side) for i in chosen]


def draw_image(examples: Examples, i: int, classes: Sequence[str], pred: Any, side: int | None) -> Tensor:
    """Return a picture of image ``i`` with its truth and its prediction."""
    picture, scale = _scaled(examples.images[i].cpu(), side)
    if examples.class_masks is not None:
        values = examples.class_masks[i].cpu()
        picture = draw_masks(picture, ((values > 0) & (values != VOID))[None], [TRUTH])
    if examples.instance_masks is not None and len(examples.instance_masks[i]):
        picture = draw_masks(picture, examples.instance_masks[i].cpu(), [TRUTH])
    taken: list[Place] = []
    if examples.boxes is not None and examples.labels is not None:
        names = [classes[label] for label in examples.labels[i].tolist()]
        picture = draw_boxes(picture, examples.boxes[i].cpu() * scale, names, TRUTH, taken)
    if isinstance(pred, Detections):
        picture = draw_detections(picture, pred, classes, scale=scale, taken=taken)
    elif isinstance(pred, Segmentation):
        picture = draw_segmentation(picture, pred, classes)
    return _captioned(picture, examples, i, classes, pred)


def draw_detections(
    picture: Tensor, pred: Detections, classes: Sequence[str], scale: float = 1.0, taken: list[Place] | None = None
) -> Tensor:
    """Draw the detections above the score threshold, of those in one place the best."""
    best = _best(Detections(*(part.cpu() for part in pred)))
    names = [f"{classes[c]} {s:.2f}" for c, s in zip(best.labels.tolist(), best.scores.tolist(), strict=True)]
    return draw_boxes(picture, best.boxes * scale, names, PREDICTION, taken)


def draw_segmentation(picture: Tensor, pred: Segmentation, classes: Sequence[str]) -> Tensor:
    """Tint each pixel with the color of its class; where there are several classes, write their names on them."""
    colors, values = mask_colors(len(pred.masks)), pred.label_map.cpu()
    masks = torch.stack([values == 1 + i for i in range(len(colors))])
    picture = draw_masks(picture, masks, colors)
    several = len(colors) > 1 and len(classes) == len(colors)
    taken: list[Place] = []
    for i in (i for i, mask in enumerate(masks) if several and mask.any()):
        y, x = (masks[i].nonzero().float().mean(0) * picture.shape[1] / len(values)).tolist()
        picture = write_label(picture, (x, y), classes[i], colors[i], taken)
    return picture


def write_label(
    picture: Tensor, place: tuple[float, float], text: str, color: Color, taken: list[Place] | None = None
) -> Tensor:
    """Write a text with its middle at a place in pixels, or close to it where no other label stands."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    canvas, font = ImageDraw.Draw(image), _font(_letters(picture))
    extent = canvas.textbbox((0, 0), text, font=font)
    left, bottom = place[0] - extent[2] / 2, place[1] + extent[3] / 2
    _label(canvas, (left, bottom, left, bottom), text, font, color, [] if taken is None else taken)
    return _as_tensor(image)


def draw_boxes(
    picture: Tensor,
    boxes: Tensor,
    names: Sequence[str],
    color: Color | Sequence[Color],
    taken: list[Place] | None = None,
) -> Tensor:
    """Draw boxes ``(M, 4)`` in pixels of the picture, each with its name where no other label stands.

    Empty and inverted boxes are left out; an empty name is not written. One color serves all, or each has its own.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    canvas, font, width = ImageDraw.Draw(image), _font(_letters(picture)), _line_width(picture)
    labels = [] if taken is None else taken  # places of labels, also of those that other calls drew
    colors = [color] * len(boxes) if isinstance(color[0], int) else color
    drawn = [row for row in zip(boxes.tolist(), names, colors, strict=True) if _has_area(row[0])]
    for box, _, box_color in drawn:
        canvas.rectangle(box, outline=box_color, width=width)
    for box, name, box_color in drawn:
        if name:
            _label(canvas, box, name, font, box_color, labels)
    return _as_tensor(image)


def _has_area(box: Sequence[float]) -> bool:
    return box[2] > box[0] and box[3] > box[1]


def _label(canvas: Any, box: Sequence[float], name: str, font: Any, color: Color, taken: list[Place]) -> None:
    """Write the name of a box on its color, and note its place."""
    place = place_label(box, canvas.textbbox((0, 0), name, font=font), canvas.im.size, taken)
    taken.append(place)
    canvas.rectangle(place, fill=color)
    canvas.text((place[0] + 2, place[1]), name, fill=(0, 0, 0), font=font)


def place_label(
    box: Sequence[float],
    text: tuple[float, float, float, float],
    size: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Return where a label stands: above its box, below, inside, then further down, inside the picture.

    The first of these places that covers no label drawn before is taken, else the one that covers least.

    Args:
        box: ``(x1, y1, x2, y2)``.
        text: Extent of the text drawn at (0, 0).
        size: Width and height of the picture.
        taken: Places of the labels drawn before.
    """
    width, height = text[2] + 4, text[3] + 3
    tops = [box[1] - height, box[3], box[1], box[3] - height, *(box[1] + i * height for i in range(1, 8))]
    places = []
    for top in tops:
        x = min(max(box[0], 0), max(size[0] - width, 0))
        y = min(max(top, 0), max(size[1] - height, 0))
        places.append((x, y, x + width, y + height))
    if not taken:
        return places[0]
    covered = box_iou(torch.tensor(places), torch.tensor(taken, dtype=torch.float32)).amax(1)
    return places[int(covered.argmin())]  # the first of equals


def draw_masks(picture: Tensor, masks: Tensor, colors: Sequence[Color]) -> Tensor:
    """Tint the pixels of masks ``(N, h, w)``; one color serves all, or each has its own."""
    masks = interpolate(masks[None].float(), picture.shape[-2:])[0] > 0.5
    colors = list(colors) * len(masks) if len(colors) == 1 else list(colors)
    return draw_segmentation_masks(picture, masks, alpha=0.4, colors=colors)


def write_png(picture: Tensor, path: Path) -> None:
    """Write a picture.

    Raises:
        OSError: It cannot be written.
    """
    from PIL import Image

    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)


def write_mask(label_map: Tensor, path: Path) -> None:
    """Write a ``(H, W)`` uint8 map of classes as a palette PNG: the values are the classes, and each has a color."""
    from PIL import Image

    image = Image.fromarray(label_map.cpu().numpy()).convert("P")
    image.putpalette([0, 0, 0, *(channel for color in mask_colors(255) for channel in color)])
    image.save(path)


def mask_colors(n: int) -> list[Color]:
    """Return n colors that differ; the first is that of predictions."""
    hues = [(0.09 + 0.381966 * i) % 1 for i in range(n)]  # the golden angle apart
    rgb = [colorsys.hsv_to_rgb(hue, 1 - 0.4 * (i // 8 % 2), 1 - 0.3 * (i // 16 % 2)) for i, hue in enumerate(hues)]
    return [PREDICTION, *(tuple(round(255 * c) for c in color) for color in rgb[1:])][:n]


def caption(picture: Tensor, lines: Sequence[tuple[str, Color]]) -> Tensor:
    """Return the picture with lines of text below it."""
    from PIL import Image, ImageDraw

    size = max(12, _letters(picture))
    strip = Image.new("RGB", (picture.shape[2], (size + 4) * len(lines)), (255, 255, 255))
    canvas = ImageDraw.Draw(strip)
    for row, (text, color) in enumerate(lines):
        canvas.text((2, row * (size + 4)), text, fill=color, font=_font(size))
    return torch.cat((picture, _as_tensor(strip)), dim=1)


def _captioned(picture: Tensor, examples: Examples, i: int, classes: Sequence[str], pred: Any) -> Tensor:
    """Write the truth and the predicted class below an image whose label is one class."""
    lines: list[tuple[str, Color]] = []
    label = None
    if isinstance(examples.labels, Tensor) and examples.labels.ndim == 1 and i < len(examples.labels):
        label = int(examples.labels[i])
        lines.append((classes[label] if label < len(classes) else "none of these", (0, 110, 30)))
    if isinstance(pred, Tensor) and pred.ndim == 1 and len(pred) == len(classes):
        best = int(pred.argmax())
        right = label is None or best == label
        lines.append((f"{'' if right else 'wrong: '}{classes[best]}", (200, 90, 0) if right else (200, 0, 0)))
    return caption(picture, lines) if lines else picture


def _chosen(examples: Examples, count: int) -> list[int]:
    one_class_each = isinstance(examples.labels, Tensor) and examples.labels.ndim == 1
    if not one_class_each or count < 2:
        return list(range(count))
    return torch.linspace(0, len(examples.images) - 1, count).long().tolist()


def _best(found: Detections) -> Detections:
    kept = nms(found.boxes.float(), found.scores.float(), SHOWN_IOU)[:SHOWN_DETECTIONS]
    kept = kept[(found.scores[kept] >= SCORE_THRESHOLD) | (torch.arange(len(kept)) == 0)]
    return Detections(*(part[kept] for part in found))


def _scaled(image: Tensor, side: int | None) -> tuple[Tensor, float]:
    image = image.expand(3, -1, -1) if image.shape[0] == 1 else image
    if side is None:
        return image.clone(), 1.0
    scale = side / max(image.shape[-2:])
    size = [max(1, round(length * scale)) for length in image.shape[-2:]]
    return interpolate(image[None].float(), size, mode="bilinear")[0].round().to(torch.uint8), scale


def _grid(pictures: list[Tensor]) -> Tensor:
    height, width = (max(p.shape[axis] for p in pictures) for axis in (-2, -1))
    pictures = [pad(p, (0, width - p.shape[-1], 0, height - p.shape[-2]), value=255) for p in pictures]
    return make_grid(torch.stack(pictures), nrow=COLUMNS, padding=4, pad_value=255)


def _as_tensor(image: Any) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _line_width(picture: Tensor) -> int:
    return max(2, round(max(picture.shape[1:]) / 250))


def _letters(picture: Tensor) -> int:
    return max(11, round(max(picture.shape[1:]) / 32))


@lru_cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
