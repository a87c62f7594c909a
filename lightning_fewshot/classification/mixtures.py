"""The state of every classifier: a few points in the embedding for each class.

Shapes: S support images, N classes, K modes of a class, e embedding, M counter-examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from lightning_fewshot.nn.kmeans import kmeans


class ClassMixtures(NamedTuple):
    """Modes of each class.

    Args:
        representatives: ``(N, K, e)``.
        used: ``(N, K)`` bool; a class with fewer modes than K leaves slots unused, with zeros.
        negatives: ``(M, e)`` counter-examples, which belong to none of the classes; None: there are none.
    """

    representatives: Tensor
    used: Tensor
    negatives: Tensor | None = None


def mixtures_of(embedded: Tensor, labels: Tensor, n_modes: int, unit: bool = True) -> ClassMixtures:
    """Return the modes of classes: the examples themselves, or centres of k-means where there are more than K.

    Args:
        embedded: ``(S, e)``.
        labels: ``(S,)`` in [0, N), each class at least once.
        n_modes: K.
        unit: Bring centres to unit length.

    Raises:
        ValueError: A class has no example.
    """
    groups = [embedded[labels == label] for label in range(int(labels.max()) + 1)]
    empty = [label for label, group in enumerate(groups) if not len(group)]
    if empty:
        raise ValueError(f"class {empty[0]} of {len(groups)} has no example in the support")
    return stack_modes([kmeans(group, n_modes) for group in groups], unit=unit)


def stack_modes(modes: Sequence[Tensor], unit: bool = True) -> ClassMixtures:
    """Return the modes ``(K_i, e)`` of N classes as one state."""
    most = max(len(rows) for rows in modes)
    representatives = torch.stack([pad(rows, (0, 0, 0, most - len(rows))) for rows in modes])
    counts = torch.tensor([len(rows) for rows in modes], device=representatives.device)
    used = torch.arange(most, device=counts.device) < counts[:, None]
    return ClassMixtures(normalize(representatives, dim=-1) if unit else representatives, used)


def joined(state: ClassMixtures, new: ClassMixtures) -> ClassMixtures:
    """Return the classes of ``state``, then those of ``new``; neither is changed."""
    most = max(state.used.shape[1], new.used.shape[1])
    padded = [_padded(part, most) for part in (state, new)]
    representatives, used = (torch.cat(parts) for parts in zip(*padded, strict=True))
    return state._replace(representatives=representatives, used=used)


def _padded(state: ClassMixtures, n_modes: int) -> tuple[Tensor, Tensor]:
    spare = n_modes - state.used.shape[1]
    return pad(state.representatives, (0, 0, 0, spare)), pad(state.used, (0, spare))
