"""Images and visualisations of one-shot recognition: ranked problems, and figure 3 (filters and their responses).

Shapes: P exemplars, R candidates of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_fewshot.drawing import PREDICTION, TRUTH
from lightning_fewshot.models.learnet.characters.drawings import ink
from lightning_fewshot.models.learnet.characters.network import LearnetNetwork
from lightning_fewshot.models.learnet.tiles import GAP, SHOWN_FILTERS, SIDE, signed_tile, tile

SHOWN_PROBLEMS, SHOWN_CANDIDATES = 10, 10


def draw_problems(exemplars: Tensor, candidates: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
    """Draw problems as rows: the exemplar, then the best candidates by falling score.

    The match has a green frame; a wrong first has an orange one. Lost problems come first, at most half the rows.

    Args:
        exemplars: ``(P, 1, S, S)`` uint8.
        candidates: ``(P * R, 1, S, S)`` uint8, exemplar by exemplar.
        labels: ``(P * R,)``, 1 at the match.
        scores: ``(P, R)``.

    Returns:
        ``(3, H, W)`` uint8.
    """
    order = scores.argsort(-1, descending=True)[:, :SHOWN_CANDIDATES].cpu()
    images = candidates.cpu().unflatten(0, tuple(scores.shape))
    matches = labels.cpu().view(tuple(scores.shape))
    rows = []
    for p in _chosen(matches.gather(1, order)[:, 0].bool()):
        row = [tile(exemplars[p].cpu()), torch.full((3, SIDE, GAP), 120, dtype=torch.uint8)]
        for rank, r in enumerate(order[p].tolist()):
            color = TRUTH if matches[p, r] else PREDICTION if rank == 0 else None
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


def _chosen(right: Tensor) -> list[int]:
    """Return which problems to show: lost ones first, at most half unless there are too few others."""
    lost, won = (~right).nonzero()[:, 0].tolist(), right.nonzero()[:, 0].tolist()
    lost_shown = min(len(lost), max(SHOWN_PROBLEMS // 2, SHOWN_PROBLEMS - len(won)))
    return lost[:lost_shown] + won[: SHOWN_PROBLEMS - lost_shown]
