"""Embeddings of unit length: the fully connected layers that lead there, and distances between them.

Shapes: R vectors, F features, e embedding, N classes, K modes of a class.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import linear, normalize


def embedding_layers(n_features: int, widths: Sequence[int]) -> nn.Sequential:
    """Return fully connected layers with batch normalisation and ReLU (RepMet, section 4.2: 1024, 1024)."""
    layers = [
        layer
        for a, b in itertools.pairwise([n_features, *widths])
        for layer in (nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*layers)


class EmbeddingModule(nn.Module):
    """RepMet's embedding module: layers with batch normalisation, and a linear one to unit length (section 4).

    Args:
        n_inputs: Pooled features.
        widths: Widths of the layers; the last is F. None of them: F is ``n_inputs``.
        dim: e.
    """

    def __init__(self, n_inputs: int, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.layers = embedding_layers(n_inputs, widths)
        self.last = nn.Linear([n_inputs, *widths][-1], dim)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the features that the last layer sees, ``(R, F)``."""
        return self.layers(pooled)

    def embed(self, features: Tensor) -> Tensor:
        """Return the embedding of ``(R, F)`` features, ``(R, e)`` of unit length."""
        return embed(features, self.last.weight, self.last.bias)


def embed(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the embedding of ``(R, F)`` features by a last layer ``(e, F)``, ``(R, e)`` of unit length."""
    return normalize(linear(features, weight, bias), dim=-1)


def embed_features(head: EmbeddingModule | None, features: Tensor, unit: bool) -> Tensor:
    """Return the embedding of pooled features by a module, or these themselves, ``(R, e)``."""
    embedded = features if head is None else head.last(head(features))
    return normalize(embedded, dim=-1) if unit else embedded


def squared_distances(embedded: Tensor, representatives: Tensor) -> Tensor:
    """Return squared Euclidean distances between unit vectors, ``(R, N, K)`` in [0, 4]: one matrix product.

    Args:
        embedded: ``(R, e)`` of unit length.
        representatives: ``(N, K, e)`` of unit length.

    >>> import torch
    >>> a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    >>> squared_distances(a, b).tolist()
    [[[2.0, 0.0]]]
    """
    n_classes, n_modes, _ = representatives.shape
    cosine = embedded @ representatives.flatten(0, 1).T
    return (2 - 2 * cosine).clamp(min=0).unflatten(1, (n_classes, n_modes))
