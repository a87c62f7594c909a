"""PrototypicalNetwork: a class is the mean of its embedded shots, and training is on few-shot tasks.

Prototypical networks for few-shot learning (Snell, Swersky and Zemel, NIPS 2017), section 2.

Shapes: Q query images, S support images, N classes, e embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lightning_fewshot.classification.module import ClassifierModule, ScoreRule
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Episode
from lightning_fewshot.settings import BackboneSettings, Optimization


class PrototypicalNetwork(ClassifierModule):
    """Classify by the nearest prototype: softmax over negative squared Euclidean distances to the classes' means.

    Args:
        backbone: "conv4", the paper's, or any timm network.
        embedding: Layers on top of it, whose last is linear; None, as in the paper: the features are it.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values.
    """

    unit = False  # section 2.4: Euclidean distances

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("conv4"),
        embedding: EmbeddingHead | None = None,
        optimization: Optimization = Optimization("Adam"),
        init_from: str | None = None,
    ) -> None:
        super().__init__(backbone, embedding, optimization=optimization, init_from=init_from)

    def score_rule(self) -> ScoreRule:
        """Return eq. (2)."""
        return prototype_scores

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the cross-entropy of eq. (2) on the queries of a task.

        Raises:
            ValueError: The training episode is a batch, without support.
        """
        if episode.support is None:
            raise ValueError("PrototypicalNetwork trains on tasks: set data.training to datamodules.TaskTraining")
        support, query = episode.support, episode.query
        embedded = self.embed(torch.cat([support.images, query.images]))
        shots, queries = embedded.split([len(support.images), len(query.images)])
        numbers = torch.arange(len(episode.classes), device=shots.device)
        one_hot = (support.labels[:, None] == numbers).to(shots.dtype)  # (S, N)
        prototypes = one_hot.T @ shots / one_hot.sum(dim=0)[:, None]  # eq. (1)
        return {"cross_entropy": cross_entropy(-euclidean(queries, prototypes), query.labels)}


def euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Return squared Euclidean distances of ``(Q, e)`` and ``(N, e)``, ``(Q, N)``: one matrix product.

    >>> euclidean(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0], [3.0, 0.0]])).tolist()
    [[25.0, 0.0]]
    """
    return a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T


def prototype_scores(
    embedded: Tensor, representatives: Tensor, used: Tensor, negatives: Tensor | None = None
) -> Tensor:
    """Return the probability of every class, eq. (2), ``(Q, N)``; a class has one prototype."""
    return (-euclidean(embedded, representatives[:, 0])).softmax(dim=-1)
