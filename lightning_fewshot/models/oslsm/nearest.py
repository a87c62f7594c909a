"""Nearest labelled locations: what 1-NN (section 6) and siamese matching label a query image with.

Shapes: P query locations, M labelled locations of all shots of one class, D features, (h, w) locations of a query
image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Neighbours(NamedTuple):
    """Labelled locations of each class, for nearest-neighbour methods.

    Args:
        features: For each class ``(M, D)``.
        objects: For each class ``(M,)`` bool.
        classes: ``(N,)`` int64, index into ``Episode.classes``.
    """

    features: tuple[Tensor, ...]
    objects: tuple[Tensor, ...]
    classes: Tensor


def labelled_locations(maps: Sequence[Tensor], labelled: Sequence[tuple[Tensor, Tensor]], labels: Tensor) -> Neighbours:
    """Collect the known locations of all shots of each class.

    Args:
        maps: ``(D, h, w)`` of each shot.
        labelled: For each shot ``(h, w)`` bool twice: the object's locations, and the known ones.
        labels: ``(S,)``, class of each shot.
    """
    shots = [(m.flatten(1).T[k.flatten()], o.flatten()[k.flatten()]) for m, (o, k) in zip(maps, labelled, strict=True)]
    classes = labels.unique()
    features, objects = [], []
    for label in classes.tolist():
        chosen = [shot for shot, shown in zip(shots, labels.tolist(), strict=True) if shown == label]
        features.append(torch.cat([f for f, _ in chosen]))
        objects.append(torch.cat([o for _, o in chosen]))
    return Neighbours(tuple(features), tuple(objects), classes)


def neighbour_logits(state: Neighbours, features: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return how much nearer the nearest object location is than the nearest background location.

    Positive is 1-NN's "object". Where a support has no background, the query's locations are ranked by their distance
    to the object; none is negative.

    Args:
        state: Locations of N classes.
        features: ``(D, h, w)`` of a query image.
        scale: ``(D,)`` weights of the l1 distance (siamese matching); None: Euclidean distance (1-NN).

    Returns:
        ``(N, h, w)``.
    """
    query = features.flatten(1).T.contiguous()  # (P, D)
    maps = []
    for labelled, objects in zip(state.features, state.objects, strict=True):
        apart = distances(query, labelled, scale)
        near = apart[:, objects].amin(1)
        far = apart[:, ~objects].amin(1) if not bool(objects.all()) else near.max().expand_as(near)
        maps.append((far - near).view(features.shape[1:]))
    return torch.stack(maps)


def distances(a: Tensor, b: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return Euclidean distances of all pairs, by one matrix product, or l1 distances weighted by ``scale``.

    Args:
        a: ``(P, D)``.
        b: ``(M, D)``.
        scale: ``(D,)``, not negative, or None.

    Returns:
        ``(P, M)``.

    >>> distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])).tolist()
    [[5.0]]
    >>> distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0])).tolist()
    [[11.0]]
    """
    if scale is None:
        return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    return torch.cdist(a * scale, b * scale, p=1.0)
