"""Pictures of one-shot recognition: ranked problems, and figure 3 (predicted filters and their responses).

Shapes: P exemplars, R candidates of each.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from lightning_fewshot.drawing import PREDICTION, TRUTH
from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.learnet.characters.network import LearnetNetwork
from lightning_fewshot.models.learnet.characters.streams import ink

TILE, FRAME, GAP = 56, 4, 4  # pixels
SHOWN_PROBLEMS, SHOWN_CANDIDATES, SHOWN_FILTERS = 10, 10, 8


def draw_problems(episode: Episode, scores: Tensor) -> Tensor:
    """Draw problems as rows: the exemplar, then the best candidates by falling score.

    The match has a green frame; a wrong first has an orange one. Lost problems come first, at most half the rows.

    Args:
        episode: P exemplars in support, ``P * R`` candidates in query, ``query.labels`` 1 at the match.
        scores: ``(P, R)``.

    Returns:
        ``(3, H, W)`` uint8.
    """
    order = scores.argsort(-1, descending=True)[:, :SHOWN_CANDIDATES].cpu()
    images = episode.query.images.cpu().unflatten(0, tuple(scores.shape))
    labels = episode.query.labels.cpu().view(tuple(scores.shape))
    rows = []
    for p in _chosen(labels.gather(1, order)[:, 0].bool()):
        row = [tile(episode.support.images[p].cpu()), torch.full((3, _side(), GAP), 120, dtype=torch.uint8)]
        for rank, r in enumerate(order[p].tolist()):
            color = TRUTH if labels[p, r] else PREDICTION if rank == 0 else None
            row.append(tile(images[p, r], color))
        rows.append(torch.cat(row, 2))
    return torch.cat(rows, 1)


def draw_filters(network: LearnetNetwork, exemplars: Tensor, image: Tensor, count: int = SHOWN_FILTERS) -> Tensor:
    """Draw figure 3: a row for each exemplar, its first predicted filters, and their responses to a common input.

    Each filter and each response is stretched to its own range: red is positive, blue negative, white zero.

    Args:
        network: A network with a learnet.
        exemplars: ``(P, 1, 28, 28)`` uint8.
        image: ``(1, 28, 28)`` uint8, the common input.
        count: Filters of each exemplar.

    Returns:
        ``(3, H, W)`` uint8: exemplar, filters, input, responses.
    """
    filters = network.adapt(exemplars).filters
    responses = network.stream.first_response(ink(image[None]).expand(len(exemplars), -1, -1, -1), filters)
    shown = filters if filters.ndim == 4 else filters.flatten(1, 2)  # the naive predictor: (P, K, C, F, F)
    rows = []
    for p in range(len(exemplars)):
        row = [tile(exemplars[p].cpu()), *map(signed_tile, shown[p, :count].cpu()), tile(image.cpu())]
        rows.append(torch.cat([*row, *map(signed_tile, responses[p, :count].cpu())], 2))
    return torch.cat(rows, 1)


def stack(pictures: list[Tensor]) -> Tensor:
    """Put pictures ``(3, H, W)`` of different widths below each other."""
    width = max(p.shape[2] for p in pictures)
    return torch.cat([pad(p, (0, width - p.shape[2], 0, 2 * GAP), value=255) for p in pictures], 1)


def _chosen(right: Tensor) -> list[int]:
    """Return which problems to show: lost ones first, at most half unless there are too few others."""
    lost, won = (~right).nonzero()[:, 0].tolist(), right.nonzero()[:, 0].tolist()
    lost_shown = min(len(lost), max(SHOWN_PROBLEMS // 2, SHOWN_PROBLEMS - len(won)))
    return lost[:lost_shown] + won[: SHOWN_PROBLEMS - lost_shown]


def _side() -> int:
    return TILE + 2 * FRAME


def tile(image: Tensor, color: tuple[int, int, int] | None = None) -> Tensor:
    """Enlarge ``(1 or 3, H, W)`` uint8 to a framed tile ``(3, side, side)``."""
    big = interpolate(image.expand(3, -1, -1)[None].float(), (TILE, TILE), mode="nearest")[0].to(torch.uint8)
    framed = torch.tensor(color or (255, 255, 255), dtype=torch.uint8)[:, None, None].repeat(1, _side(), _side())
    framed[:, FRAME:-FRAME, FRAME:-FRAME] = big
    return framed


def signed_tile(values: Tensor) -> Tensor:
    """Colour ``(H, W)`` numbers: red for positive, blue for negative, white for zero."""
    part = values / values.abs().max().clamp(min=1e-12)
    rgb = torch.stack([1 + part.clamp(max=0), 1 - part.abs(), 1 - part.clamp(min=0)])
    return tile((255 * rgb).round().to(torch.uint8))
