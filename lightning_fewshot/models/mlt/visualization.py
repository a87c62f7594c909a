"""Pictures of a tracked sequence: the track; and what target-specific kernels change in the responses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from lightning_fewshot.episodes import Episode
from lightning_fewshot.tracking.crops import crop, exemplar_windows, search_windows
from lightning_fewshot.tracking.episodes import is_supervised
from lightning_fewshot.tracking.pictures import draw_track

TILE, GAP = 127, 4  # pixels
SHOWN = 3  # later frames whose responses are shown


def draw_sequence(module: Any, episode: Episode, preds: Any) -> Tensor:
    """Draw a tracked video; below it the exemplar, and for some frames patch, response, adapted response.

    Args:
        module: A MetaLearnerTracker.
        episode: A sequence.
        preds: Its track.

    Returns:
        ``(3, H, W)`` uint8. Responses are grey from the lowest to the highest of their own range.
    """
    if is_supervised(episode):
        boxes, times = preds.boxes, preds.boxes.isfinite().all(1).nonzero()[:, 0].tolist()
    else:
        boxes, times = preds.boxes, list(range(min(len(episode.query.images), len(preds.boxes))))
    tracker, frames = module.tracker(), episode.query.images
    shown = [times[len(times) * i // SHOWN] for i in range(SHOWN)]
    exemplar = crop(frames[0], exemplar_windows(episode.support.boxes[0].cpu(), tracker.context), tracker.exemplar)
    windows = [search_windows(boxes[t][None], context=tracker.context) for t in shown]
    patches = torch.cat([crop(frames[t], w, tracker.size) for t, w in zip(shown, windows, strict=True)])
    row = _responses(module, exemplar.to(module.device), patches.to(module.device))
    if is_supervised(episode):
        return row
    strip = draw_track(episode, preds)
    width = max(strip.shape[2], row.shape[2])
    return torch.cat([pad(p, (0, width - p.shape[2], 0, GAP), value=255) for p in (strip, row)], 1)


def _responses(module: Any, exemplar: Tensor, patches: Tensor) -> Tensor:
    state = module.network.adapt(exemplar)
    maps = [module.network.predict(state, patches)[0]]
    if module.meta is not None:
        maps.append(module.network.predict(module.specialise(state, patches), patches)[0])
    tiles = [_tile(exemplar[0])]
    for i, patch in enumerate(patches):
        tiles += [_tile(patch), *(_tile(_grey(m[i])) for m in maps)]
    return torch.cat(tiles, 2)


def _grey(response: Tensor) -> Tensor:
    low, high = response.aminmax()
    return ((response - low) / (high - low).clamp(min=1e-9) * 255).expand(3, -1, -1)


def _tile(image: Tensor) -> Tensor:
    picture = interpolate(image[None].float().cpu(), (TILE, TILE), mode="bilinear", antialias=True)[0]
    return pad(picture.round().clamp(0, 255).to(torch.uint8), (0, GAP), value=255)
