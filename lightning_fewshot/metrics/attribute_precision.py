"""Are images of the same attribute neighbours in an embedding that never saw the attributes? (RepMet, figure 6 (a))

The protocol of Rippel et al. (Magnet loss, ICLR 2016): for each image and each of its attributes, the share of its
nearest neighbours that have the attribute too, over neighbourhoods of different sizes.

Shapes: n images, e embedding, A attributes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor


def attribute_precision(embedded: Tensor, attributes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the mean precision of neighbourhoods, one value a size, ``(len(sizes),)`` in [0, 1].

    Args:
        embedded: ``(n, e)``.
        attributes: ``(n, A)`` bool.
        sizes: How many neighbours count, each in [1, n - 1].

    Raises:
        ValueError: A neighbourhood is larger than there are other images, or no image has an attribute.

    >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.2]])
    >>> red = torch.tensor([[True], [True], [False], [True]])
    >>> attribute_precision(points, red, (1, 3)).tolist()
    [0.6666666666666666, 0.6666666666666666]
    """
    wrong = [size for size in sizes if not 1 <= size < len(embedded)]
    if wrong:
        raise ValueError(f"a neighbourhood has {wrong[0]} images but must have 1 to {len(embedded) - 1}")
    if not bool(attributes.any()):
        raise ValueError(f"none of the {len(attributes)} images has an attribute")
    distances = torch.cdist(embedded, embedded).fill_diagonal_(float("inf"))
    nearest = distances.topk(max(sizes), largest=False).indices  # (n, max)
    found = torch.stack([_matches(row, attributes, of) for row, of in zip(nearest, attributes, strict=True)])
    shares = torch.stack([found[:, :size].sum(dim=1) / size for size in sizes])  # (sizes, n), summed over attributes
    return shares.sum(dim=1) / attributes.sum()


def attribute_table(images: Sequence[Collection[str]]) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of all attributes, sorted, and which image has which, ``(n, A)`` bool.

    >>> attribute_table([{"red"}, {"red", "round"}])[1].tolist()
    [[True, False], [True, True]]
    """
    names = tuple(sorted(set().union(*images)))
    return names, torch.tensor([[name in attributes for name in names] for attributes in images], dtype=torch.bool)


def _matches(neighbours: Tensor, attributes: Tensor, wanted: Tensor) -> Tensor:
    """Return how many of the wanted attributes each neighbour has, ``(max,)``."""
    return (attributes[neighbours] & wanted).sum(dim=1).double()
