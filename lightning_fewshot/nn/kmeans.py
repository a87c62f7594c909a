"""K-means that always gives the same answer: no random start, so that an episode is a function of its support.

Shapes: S points, e their length, K centres.
"""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 20


@torch.no_grad()
def kmeans(points: Tensor, n_centres: int, iterations: int = ITERATIONS) -> Tensor:
    """Return the centres of Lloyd's iteration, started at points that are far apart.

    The first is the point nearest to the mean, each further one the point farthest from those before (Gonzalez 1985).

    Args:
        points: ``(S, e)``.
        n_centres: K; with K >= S the points themselves are returned.
        iterations: At most.

    Returns:
        ``(min(K, S), e)``.

    >>> kmeans(torch.tensor([[0.0], [1.0], [9.0], [10.0]]), 2).ravel().sort().values.tolist()
    [0.5, 9.5]
    """
    if n_centres >= len(points):
        return points
    if n_centres == 1:
        return points.mean(dim=0, keepdim=True)
    centres, owner = _far_apart(points, n_centres), None
    for _ in range(iterations):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        if owner is not None and torch.equal(nearest, owner):
            break
        owner = nearest
        members = torch.nn.functional.one_hot(owner, n_centres).to(points.dtype)  # (S, K)
        sizes = members.sum(dim=0)[:, None]
        centres = torch.where(sizes > 0, members.T @ points / sizes.clamp(min=1), centres)
    return centres


def _far_apart(points: Tensor, count: int) -> Tensor:
    first = torch.cdist(points.mean(dim=0, keepdim=True), points).argmin()
    chosen = [points[first]]
    distance = (points - chosen[0]).square().sum(dim=1)
    for _ in range(count - 1):
        chosen.append(points[distance.argmax()])
        distance = torch.minimum(distance, (points - chosen[-1]).square().sum(dim=1))
    return torch.stack(chosen)
