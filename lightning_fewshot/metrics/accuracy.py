"""Accuracy of classification, with its interval: over episodes, or over the images of a closed set.

Shapes: Q query images, N classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.estimate import Estimate, mean_interval

Rejection = Callable[[Tensor], Tensor]


def correct_predictions(preds: Tensor, target: Tensor) -> Tensor:
    """Return whether each image's class has the highest score, ``(Q,)`` float64 in [0, 1].

    A tie is broken by a fair draw in expectation; an image with a score that is not a number is wrong.

    Args:
        preds: ``(Q, N)`` scores.
        target: ``(Q,)`` true classes.

    >>> correct_predictions(torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([1, 0])).tolist()
    [1.0, 0.5]
    """
    best = preds == preds.amax(-1, keepdim=True)  # (Q, N); all False where a score is nan
    return best.gather(1, target[:, None])[:, 0].double() / best.sum(-1).clamp(min=1)


def auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """Return the area under the ROC curve: the probability that a positive scores higher, ties half.

    >>> float(auroc(torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.tensor([True, True, False, False])))
    0.875
    """
    difference = scores[positive][:, None] - scores[~positive][None, :]
    return ((difference > 0).double() + 0.5 * (difference == 0)).mean()


def least_confident(preds: Tensor) -> Tensor:
    """Return one minus the highest score of each image, ``(Q,)``: the usual score of "none of these"."""
    return 1 - preds.amax(dim=-1)


class Accuracy(Metric):
    """Mean accuracy with its 95 % interval.

    Episodes count one each: mean and 1.96 standard errors over episodes, as the field reports them. Batches of a
    closed set (protocol "batch") count by image. Queries with label N belong to none of the classes: they do not count
    for the accuracy, but for ``open_set_auroc``.

    Args:
        rejection: From scores ``(Q, N)``, how much an image looks like none of the classes, ``(Q,)``.
    """

    full_state_update = False
    higher_is_better = True
    correct: list[Tensor]
    separated: list[Tensor]

    def __init__(self, rejection: Rejection = least_confident) -> None:
        super().__init__()
        self.rejection = rejection
        self.add_state("correct", default=[], dist_reduce_fx="cat")
        self.add_state("separated", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, episode: Episode) -> None:
        """Count the queries of an episode.

        Args:
            preds: ``(Q, N)`` scores.
            episode: ``query.labels`` ``(Q,)`` in [0, N]; N is none of the classes.
        """
        preds, labels = preds.detach(), episode.query.labels
        unknown = labels >= len(episode.classes)
        correct = correct_predictions(preds[~unknown], labels[~unknown])
        self.correct.append(correct if episode.protocol == "batch" else correct.mean()[None])
        if bool(unknown.any()):
            self.separated.append(auroc(self.rejection(preds), unknown)[None])

    def compute(self) -> dict[str, Estimate]:
        """Return ``accuracy`` and ``error``, and ``open_set_auroc`` where queries were of no class."""
        correct = _joined(self.correct)
        estimates = {
            "accuracy": mean_interval(correct, limits=(0.0, 1.0)),
            "error": mean_interval(1 - correct, limits=(0.0, 1.0)),
        }
        if len(self.separated):
            estimates["open_set_auroc"] = mean_interval(_joined(self.separated), limits=(0.0, 1.0))
        return estimates


def _joined(values: Tensor | list[Tensor]) -> Tensor:
    joined = values if isinstance(values, Tensor) else torch.cat(values) if values else torch.empty(0)
    return joined.cpu()
