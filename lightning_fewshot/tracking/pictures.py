"""Pictures of tracking for the run folder: frames spread over a sequence.

Green is the truth, orange what was tracked, as in the other pictures of a run.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision.utils import draw_bounding_boxes

from lightning_fewshot.boxes import polygon_boxes, valid
from lightning_fewshot.episodes import Episode
from lightning_fewshot.tracking.loop import Track

TRUTH, TRACKED = (60, 200, 80), (255, 140, 0)
SHOWN, COLUMNS, SIDE = 8, 4, 224  # frames of a picture, and of its row; pixels of their height
LINE = 3  # pixels


def draw_track(episode: Episode, preds: Track) -> Tensor:
    """Return ``(3, H, W)`` uint8: frames spread over the sequence, with truth and track."""
    frames, truth = episode.query.images, episode.query.boxes
    if truth is not None and truth[0].shape[1] == 8:
        truth = [polygon_boxes(truth[0])]
    count = min(len(frames), len(preds.boxes))
    shown = torch.linspace(0, count - 1, min(SHOWN, count)).round().long().tolist()
    pictures = []
    for t in shown:
        boxes = {TRACKED: preds.boxes[t]}
        if truth is not None and t < len(truth[0]):
            boxes = {TRUTH: truth[0][t].cpu(), **boxes}
        width = max(1, round(LINE * frames[t].shape[1] / SIDE))
        pictures.append(_to_height(draw_frame(frames[t], boxes, width), SIDE))
    rows = [torch.cat(pictures[i : i + COLUMNS], dim=2) for i in range(0, len(pictures), COLUMNS)]
    return torch.cat([pad(row, (0, rows[0].shape[2] - row.shape[2]), value=255) for row in rows], dim=1)


def draw_frame(frame: Tensor, boxes: dict[tuple[int, int, int], Tensor], width: int = 2) -> Tensor:
    """Return a copy of a frame ``(3, H, W)`` with each box ``(4,)`` in its color; boxes that are NaN are left out."""
    for color, box in boxes.items():
        if bool(valid(box)):
            frame = draw_bounding_boxes(frame, box[None], colors=color, width=width)
    return frame


def _to_height(picture: Tensor, height: int) -> Tensor:
    size = (height, max(1, round(picture.shape[2] * height / picture.shape[1])))
    return interpolate(picture[None].float(), size, mode="bilinear", antialias=True)[0].round().to(torch.uint8)
