"""Images and visualisations of MetaRTT: learned rates by layer and step, masks of a sequence, a simulated episode.

Shapes: P clips, O frames between the first and the last.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torchvision.utils import draw_bounding_boxes

from lightning_fewshot.drawing import PREDICTION, TRUTH
from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.metartt.rates import Rates
from lightning_fewshot.models.metartt.simulation import Trajectory
from lightning_fewshot.tracking.candidates.head import Head

BINS, BIN_WIDTH, ROW_HEIGHT, LABEL_WIDTH = 61, 5, 22, 310  # of a picture of rates, in pixels where not a number
MASK_WIDTH, SIDE, SHOWN_CLIPS, SHOWN_CANDIDATES = 768, 160, 3, 40
CANDIDATE = (150, 190, 255)
KEPT, REMOVED = (40, 110, 190), (235, 235, 235)


@torch.no_grad()
def draw_rates(learned: dict[str, Rates]) -> Tensor:
    """Draw a histogram for every layer and step as a row: dark where many rates lie.

    A layer's label says its mean at this step, and the range of all its steps, which the row shows.

    Args:
        learned: The rates by what their number of steps is called, "k_init" and "k_on".

    Returns:
        ``(3, H, W)`` uint8.
    """
    rows = []
    for number, rates in learned.items():
        title = number.removeprefix("k_")
        for name, values in rates.learned().items():
            low, high = values.min().item(), values.max().item()
            for k in range(len(values)):
                label = f"{title} {name} {k + 1}: {values[k].mean():.4f} in {low:.4f} .. {high:.4f}"
                rows.append(_labelled(label, _histogram(values[k], low, high)))
    return torch.cat(rows, 1)


def draw_masks(keep: Head) -> Tensor:
    """Draw the mask of every layer as a row: blue channels stay, light ones are removed.

    Returns:
        ``(3, H, W)`` uint8.
    """
    rows = []
    for name, kept in keep.items():
        colors = torch.tensor(KEPT), torch.tensor(REMOVED)
        row = torch.where(kept.cpu()[:, None], *colors).T[:, None].float()  # (3, 1, C)
        row = interpolate(row[None], (ROW_HEIGHT - 4, MASK_WIDTH), mode="nearest")[0].to(torch.uint8)
        label = f"{name}: {int(kept.sum())} of {len(kept)}"
        rows.append(_labelled(label, pad(row, (0, 0, 2, 2), value=255)))
    return torch.cat(rows, 1)


def draw_simulation(episode: Episode, tau: Trajectory) -> Tensor:
    """Draw the clips of a simulated episode as rows: truth green, candidates pale, the estimated target orange.

    Returns:
        ``(3, H, W)`` uint8.
    """
    rows = []
    for p in range(min(SHOWN_CLIPS, len(episode.support.images))):
        pictures = [_simulated_frame(frame, tau, p, t) for t, frame in enumerate(_frames_of_clip(episode, p))]
        rows.append(torch.cat(pictures, 2))
    return stack(rows)


def stack(pictures: list[Tensor]) -> Tensor:
    """Put pictures ``(3, H, W)`` of different widths below each other."""
    width = max(p.shape[2] for p in pictures)
    return torch.cat([pad(p, (0, width - p.shape[2], 0, 4), value=255) for p in pictures], 1)


def _frames_of_clip(episode: Episode, clip: int) -> list[Tensor]:
    count = len(episode.query.images) // len(episode.support.images)
    return [episode.support.images[clip], *episode.query.images[clip * count : (clip + 1) * count]]


def _simulated_frame(frame: Tensor, tau: Trajectory, clip: int, t: int) -> Tensor:
    """Draw frame ``t`` of a clip at a height of 160 pixels: D_init first, D_test last, D_on between."""
    frame, is_online = frame.cpu(), tau.estimated is not None and 0 < t <= tau.estimated.shape[1]
    if is_online:
        frame = draw_bounding_boxes(frame, tau.candidates[clip, t - 1, :SHOWN_CANDIDATES].cpu(), colors=CANDIDATE)
    width = max(2, round(frame.shape[2] / 130))
    frame = draw_bounding_boxes(frame, tau.clips.boxes[clip, t][None], colors=TRUTH, width=width)
    if is_online:
        frame = draw_bounding_boxes(frame, tau.estimated[clip, t - 1][None].cpu(), colors=PREDICTION, width=width)
    size = (SIDE, max(1, round(SIDE * frame.shape[2] / frame.shape[1])))
    shown = interpolate(frame[None].float(), size, mode="bilinear", antialias=True)[0]
    return pad(shown.round().to(torch.uint8), (0, 4), value=255)


def _histogram(values: Tensor, low: float, high: float) -> Tensor:
    """Return ``(3, ROW_HEIGHT, BINS * BIN_WIDTH)`` uint8 of the numbers between ``low`` and ``high``."""
    slack = max(0.01 * (high - low), 1e-9)
    counts = torch.histc(values.float().cpu(), BINS, low - slack, high + slack)
    shade = 255 - 215 * (counts / counts.max().clamp(min=1)).sqrt()
    row = shade.repeat_interleave(BIN_WIDTH).expand(3, ROW_HEIGHT - 2, -1)
    return pad(row.round().to(torch.uint8), (0, 0, 1, 1), value=255)


def _labelled(text: str, row: Tensor) -> Tensor:
    label = np.full((row.shape[1], LABEL_WIDTH, 3), 255, np.uint8)
    cv2.putText(label, text, (4, row.shape[1] - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (30, 30, 30), 1, cv2.LINE_AA)
    return torch.cat((torch.from_numpy(label).permute(2, 0, 1), row), 2)
