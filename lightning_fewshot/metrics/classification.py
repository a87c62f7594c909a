"""Error rate of one-shot recognition problems: which of m candidates shows the exemplar's class?

Shapes: P problems, m candidates of each.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.estimate import Estimate, mean_interval


def match_errors(preds: Tensor, target: Tensor) -> Tensor:
    """Return the error of each problem: the candidate with the highest score is declared the match.

    A tie is broken by a fair draw in expectation, so a constant score gets the error of chance ``1 - 1 / m`` wherever
    the match stands. A problem with a score that is not a number is lost.

    Args:
        preds: ``(P, m)`` scores.
        target: ``(P,)`` index of the one match.

    Returns:
        ``(P,)`` float64 in [0, 1].

    >>> match_errors(torch.tensor([[1.0, 3.0], [1.0, 3.0], [2.0, 2.0]]), torch.tensor([1, 0, 0])).tolist()
    [0.0, 1.0, 0.5]
    """
    best = preds == preds.amax(-1, keepdim=True)  # (P, m); all False where a score is nan
    right = best.gather(1, target[:, None])[:, 0].double() / best.sum(-1).clamp(min=1)
    return 1 - right


class MatchError(Metric):
    """Mean error over problems with its 95 % interval; ``n`` counts problems."""

    full_state_update = False
    higher_is_better = False
    errors: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("errors", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, episode: Episode) -> None:
        """Count P problems.

        Args:
            preds: ``(P, m)`` scores.
            episode: ``query.labels`` ``(P * m,)`` is 1 at the match, 0 elsewhere.

        Raises:
            ValueError: A problem has no match, or more than one.
        """
        labels = episode.query.labels.view(preds.shape)
        matches = labels.sum(-1)
        if not bool((matches == 1).all()):
            raise ValueError(
                f"every problem must have exactly 1 match, got {matches.tolist()} in episode {episode.index}"
            )
        self.errors.append(match_errors(preds.detach(), labels.argmax(-1)))

    def compute(self) -> dict[str, Estimate]:
        """Return ``{"error": Estimate}``."""
        errors = (
            self.errors
            if isinstance(self.errors, Tensor)
            else torch.cat(self.errors)
            if self.errors
            else torch.empty(0)
        )
        return {"error": mean_interval(errors.cpu(), limits=(0.0, 1.0))}
