"""Gamma, the last layer of every architecture: how alike two feature vectors are (section 3.1).

Shapes: P exemplars, R inputs of each, D features.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

ComparisonName = Literal["inner_product", "euclidean", "weighted_l1"]
FLOOR = 1e-6  # below the root of the Euclidean distance, whose slope at 0 is infinite


class Comparison(nn.Module):
    """Turn a similarity or a distance into a score for the logistic loss: ``scale * norm(similarity) + offset``.

    Distances of random features lie close together, far from the logistic loss' boundary at 0; normalising them over
    the batch puts the boundary between them from the first step. The scale is positive by construction, so that a
    distance always counts against a pair: in evaluation the ranking is that of the similarity itself.

    Args:
        name: "inner_product" <a, b>, "euclidean" ||a - b|| or "weighted_l1" ||w a - w b||_1.
        dim: D.
        learn_weights: The l1 weights are parameters; False where a learnet predicts them.
        batch_norm: Normalise the similarity over the batch; otherwise it is only divided by its size at the start.

    Raises:
        ValueError: No such comparison.
    """

    def __init__(self, name: ComparisonName, dim: int, learn_weights: bool = True, batch_norm: bool = True) -> None:
        super().__init__()
        if name not in get_args(ComparisonName):
            raise ValueError(f"comparison is {name!r} but must be one of {', '.join(get_args(ComparisonName))}")
        self.name = name
        self.unit = 1 / math.sqrt(dim) if name == "euclidean" else 1 / dim  # keeps the first scores near 1
        self.needs_weights = name == "weighted_l1" and not learn_weights
        self.weights = nn.Parameter(torch.ones(dim)) if name == "weighted_l1" and learn_weights else None
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.tensor(0.0 if batch_norm or name == "inner_product" else 1.0))
        self.norm = nn.BatchNorm1d(1, affine=False) if batch_norm else nn.Identity()

    def forward(self, features: Tensor, reference: Tensor, weights: Tensor | None = None) -> Tensor:
        """Score features ``(P, R, D)`` against references ``(P, 1, D)`` with l1 weights ``(P, 1, D)``: ``(P, R)``."""
        if self.name == "inner_product":
            similarity = (features * reference).sum(-1)
        elif self.name == "euclidean":
            similarity = -((features - reference).square().sum(-1) + FLOOR).sqrt()
        else:
            used = self.weights if weights is None else weights
            similarity = -(used * (features - reference)).abs().sum(-1)
        normed = self.norm((self.unit * similarity).reshape(-1, 1)).view_as(similarity)
        return self.log_scale.exp() * normed + self.offset
