"""Images and visualisations of a tracked sequence: the track, and what target-specific kernels change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.mlt.meta_learner import Specialiser
from lightning_fewshot.models.mlt.network import MatchingNetwork
from lightning_fewshot.tracking.crops import CropSettings, crop, exemplar_windows, search_windows
from lightning_fewshot.tracking.episodes import is_supervised
from lightning_fewshot.tracking.pictures import draw_track

TILE, GAP = 127, 4  # pixels
SHOWN = 3  # later frames whose responses are shown


def draw_sequence(
    episode: Episode, preds: Any, network: MatchingNetwork, crops: CropSettings, specialiser: Specialiser | None
) -> Tensor:
    """Draw a tracked video; below it the exemplar, and for some frames patch, response, adapted response.

    Args:
        episode: A sequence.
        preds: Its track.
        network: That tracked it, in evaluation mode.
        crops: That it was tracked with.
        specialiser: What makes target-specific kernels; None: there are no adapted responses.

    Returns:
        ``(3, H, W)`` uint8. Responses are grey from the lowest to the highest of their own range.
    """
    frames, boxes, context = episode.query.images, preds.boxes, crops.context
    times = _tracked_times(episode, boxes)
    shown = [times[len(times) * i // SHOWN] for i in range(SHOWN)]
    exemplar = crop(frames[0], exemplar_windows(episode.support.boxes[0].cpu(), context), crops.exemplar)
    windows = [search_windows(boxes[t][None], context=context, ratio=crops.ratio) for t in shown]
    patches = torch.cat([crop(frames[t], w, crops.search) for t, w in zip(shown, windows, strict=True)])
    row = _responses(exemplar, patches, network=network, specialiser=specialiser)
    if is_supervised(episode):
        return row
    strip = draw_track(episode, preds)
    width = max(strip.shape[2], row.shape[2])
    return torch.cat([pad(p, (0, width - p.shape[2], 0, GAP), value=255) for p in (strip, row)], 1)


def _tracked_times(episode: Episode, boxes: Tensor) -> list[int]:
    if is_supervised(episode):
        return boxes.isfinite().all(1).nonzero()[:, 0].tolist()
    return list(range(min(len(episode.query.images), len(boxes))))


def _responses(exemplar: Tensor, patches: Tensor, network: MatchingNetwork, specialiser: Specialiser | None) -> Tensor:
    device = network.response.adjust.weight.device
    exemplar, patches = exemplar.to(device), patches.to(device)
    state = network.adapt(exemplar)
    maps = [network.predict(state, patches)[0]]
    if specialiser is not None:
        maps.append(network.predict(specialiser.from_patches(state, patches), patches)[0])
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
