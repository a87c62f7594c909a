"""The logistic loss over the places of a response map, with the map of where the exemplar's object is.

Learnet (section 3.3) accumulates ``log(1 + exp(-y f))`` over all places, with y = +1 on a square of 2 x 2 cells; MLT
(eq. 6) averages it, with y = +1 at the target's cell. A place may match in part: with a share t of it,

    loss = sum_p w+[p] log(1 + exp(-f[p])) + w-[p] log(1 + exp(f[p]))

where ``w+ = t / N, w- = (1 - t) / N`` is the plain mean over N places, and the balanced loss gives what matches and
what does not one half each.

Shapes: B maps, (H, W) a response.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lightning_fewshot.episodes import Episode
from lightning_fewshot.nn.correlation import cell_coverage, target_cells


@dataclass(frozen=True)
class ResponseLoss(ABC):
    """The logistic loss over response maps; subclasses say which places match.

    Args:
        balance: What matches and what does not weigh one half each in every map; False: the mean over places.
    """

    balance: bool = True

    @abstractmethod
    def target(self, cells: Tensor, size: int) -> Tensor:
        """Return which share ``(B, size, size)`` of every place matches targets at ``cells`` ``(B, 2)``."""

    def weights(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return w+ and w- ``(B, H, W)`` of the places of ``target`` ``(B, H, W)``; a map without a match has no w+."""
        parts = (target, 1 - target)
        if not self.balance:
            return tuple(part / (target.shape[1] * target.shape[2]) for part in parts)
        return tuple(part * part.sum((1, 2), keepdim=True).clamp(min=1e-6).reciprocal() / 2 for part in parts)

    def __call__(self, responses: Tensor, target: Tensor) -> Tensor:
        """Return the mean over maps of the loss.

        Args:
            responses: ``(B, H, W)`` logits.
            target: ``(B, H, W)`` in [0, 1].

        >>> responses, target = torch.tensor([[[0.0, 2.0, 2.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
        >>> [round(DiscLoss(balance)(responses, target).item(), 4) for balance in (False, True)]
        [1.649, 1.41]
        """
        matching, other = self.weights(target)
        return (matching * softplus(-responses) + other * softplus(responses)).sum((1, 2)).mean()

    def slope(self, responses: Tensor, target: Tensor) -> Tensor:
        """Return the gradient ``(B, H, W)`` of each map's own loss at its responses, in closed form."""
        matching, other = self.weights(target)
        return other * torch.sigmoid(responses) - matching * torch.sigmoid(-responses)


@dataclass(frozen=True)
class SquareLoss(ResponseLoss):
    """The places that a square around the target covers match: Learnet's "central 2 x 2".

    Args:
        balance: See :class:`ResponseLoss`.
        side: Side of the square in cells, above 0.

    Raises:
        ValueError: The side is out of range.
    """

    side: float = 2.0

    def __post_init__(self) -> None:
        if self.side <= 0:
            raise ValueError(f"side is {self.side} but must be above 0")

    def target(self, cells: Tensor, size: int) -> Tensor:
        """Return the covered share ``(B, size, size)`` of every cell, for targets at ``cells`` ``(B, 2)``."""
        return cell_coverage(cells, size, self.side)


@dataclass(frozen=True)
class DiscLoss(ResponseLoss):
    """The target's nearest cell matches (MLT, section 3.2.1), and those within a radius of it.

    Args:
        balance: See :class:`ResponseLoss`; False is MLT's eq. (6).
        radius: In cells, at least 0; 0 is the nearest cell alone.

    Raises:
        ValueError: The radius is out of range.
    """

    balance: bool = False
    radius: float = 0.0

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise ValueError(f"radius is {self.radius} but must be at least 0")

    def target(self, cells: Tensor, size: int) -> Tensor:
        """Return 1 within the radius of the nearest cell and 0 elsewhere, ``(B, size, size)``.

        A target that lies beyond the response matches at the border's nearest cell.

        >>> DiscLoss().target(torch.tensor([[1.2, 0.0]]), 3)[0].tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
        """
        place = cells.round().clamp(0, size - 1)
        line = torch.arange(size, device=cells.device, dtype=cells.dtype)
        x, y = (line - place[:, :1]).square(), (line - place[:, 1:]).square()  # (B, size) each
        return (y[:, :, None] + x[:, None, :] <= self.radius**2).to(cells.dtype)


def query_cells(episode: Episode, protocol: str, exemplar: int, stride: int) -> Tensor:
    """Return which cell of the response is each query's target, ``(B, 2)``.

    Args:
        episode: Training items of a tracker.
        protocol: The kind that the caller trains on.
        exemplar: Side of the exemplar crop, in pixels.
        stride: Pixels from cell to cell.

    Raises:
        ValueError: The episode is of another kind, or has no boxes.
    """
    if episode.protocol != protocol:
        raise ValueError(f"training episodes are {episode.protocol!r} but must be {protocol!r}: set data.training")
    if episode.query.boxes is None:
        raise ValueError(f"training episodes of {protocol!r} must have boxes")
    return target_cells(torch.cat(episode.query.boxes), exemplar, stride).float()


def pair_targets(loss: ResponseLoss, episode: Episode, cells: Tensor, responses: Tensor) -> Tensor:
    """Return the targets ``(B, H, W)`` of pairs: two different objects match nowhere.

    Args:
        loss: Says which places match.
        episode: B pairs; ``query.labels`` is 1 for one object and 0 for two.
        cells: ``(B, 2)``.
        responses: ``(B, H, W)``.
    """
    target = loss.target(cells.to(responses), responses.shape[-1])
    return target * episode.query.labels.to(responses)[:, None, None]
