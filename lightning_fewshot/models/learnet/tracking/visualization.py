"""Images and visualisations of a tracked sequence: the track, and figure 4 (filters and what they answer)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.learnet.tiles import SHOWN_FILTERS, TILE, signed_tile, stack, tile
from lightning_fewshot.models.learnet.tracking.network import TrackingNetwork
from lightning_fewshot.tracking.crops import CropSettings, crop, exemplar_windows, search_windows
from lightning_fewshot.tracking.episodes import is_supervised
from lightning_fewshot.tracking.pictures import draw_track


def draw_sequence(
    episode: Episode, preds: Any, network: TrackingNetwork, crops: CropSettings, device: torch.device
) -> Tensor:
    """Draw a tracked video; below it, figure 4 for its first frame where the network predicts filters.

    Args:
        episode: A sequence.
        preds: Its track.
        network: That tracked it, in evaluation mode.
        crops: That it was tracked with.
        device: The network's.

    Returns:
        ``(3, H, W)`` uint8.
    """
    parts = [] if is_supervised(episode) else [draw_track(episode, preds)]
    if network.learnet is not None or not parts:
        box, frame = episode.support.boxes[0][0].cpu(), episode.query.images[0]
        exemplar = crop(frame, exemplar_windows(box, crops.context)[None], crops.exemplar)
        search = crop(frame, search_windows(box, context=crops.context, ratio=crops.ratio)[None], crops.search)
        parts.append(draw_filters(network, exemplar.to(device), search.to(device)))
    return stack(parts)


def draw_filters(network: TrackingNetwork, exemplars: Tensor, search: Tensor, count: int = SHOWN_FILTERS) -> Tensor:
    """Draw figure 4: a row for each exemplar, its first predicted filters and their answers to a search patch.

    Each filter and each answer is stretched to its own range: red is positive, blue negative, white zero. A network
    that predicts nothing shows the response map in their place.

    Args:
        network: The network, in evaluation mode.
        exemplars: ``(P, 3, 127, 127)`` in [0, 255].
        search: ``(1, 3, 255, 255)`` in [0, 255], the common input.
        count: Filters of each exemplar.

    Returns:
        ``(3, H, W)`` uint8: exemplar, filters, search patch, answers, response map.
    """
    state = network.adapt(exemplars)
    repeated = search.expand(len(exemplars), -1, -1, -1)
    responses = network.predict(state, repeated)[:, 0].cpu()
    answers = None
    if state.filters is not None:
        answers = network.stream.second_response(network.stream.pixels(repeated), state.filters).cpu()
    rows = []
    for p in range(len(exemplars)):
        row = [_photo(exemplars[p])]
        if answers is not None:
            row += [*map(signed_tile, state.filters[p, :count].float().cpu()), _photo(search[0])]
            row += [signed_tile(a.float()) for a in answers[p, :count]]
        rows.append(torch.cat([*row, signed_tile(responses[p])], 2))
    return torch.cat(rows, 1)


def _photo(image: Tensor) -> Tensor:
    small = interpolate(image[None].cpu().float(), (TILE, TILE), mode="bilinear", antialias=True)[0]
    return tile(small.round().clamp(0, 255).to(torch.uint8))
