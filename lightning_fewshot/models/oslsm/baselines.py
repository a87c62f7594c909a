"""The baselines of section 6: classifiers of dense conv-fc7 features that are made from the support alone.

Shapes: M cells of all shots of one class, D features, C channels before fc6, (h, w) cells of a query image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

VERIFIED = 128  # cells of each image of a pair that the siamese baseline compares in training
EPSILON = 1e-5  # of the batch normalisation of fc7


class Neighbours(NamedTuple):
    """Labelled cells of each class, for nearest-neighbour methods.

    Args:
        cells: For each class ``(M, D)``.
        objects: For each class ``(M,)`` bool.
        classes: ``(N,)`` int64, index into ``Episode.classes``.
    """

    cells: tuple[Tensor, ...]
    objects: tuple[Tensor, ...]
    classes: Tensor


def neighbour_logits(state: Neighbours, features: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return how much nearer the nearest object cell is than the nearest background cell: positive is 1-NN's "object".

    Where a support has no background, the query's cells are ranked by their distance to the object; none is negative.

    Args:
        state: Cells of N classes.
        features: ``(D, h, w)`` of a query image.
        scale: ``(D,)`` weights of the l1 distance (siamese matching); None: Euclidean distance (1-NN).

    Returns:
        ``(N, h, w)``.
    """
    query = features.flatten(1).T.contiguous()  # (h * w, D)
    maps = []
    for cells, objects in zip(state.cells, state.objects, strict=True):
        apart = distances(query, cells, scale)
        near = apart[:, objects].amin(1)
        far = apart[:, ~objects].amin(1) if not bool(objects.all()) else near.max().expand_as(near)
        maps.append((far - near).view(features.shape[1:]))
    return torch.stack(maps)


def distances(a: Tensor, b: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return Euclidean distances of all pairs, or l1 distances weighted by ``scale``, which is not negative.

    Args:
        a: ``(P, D)``.
        b: ``(M, D)``.
        scale: ``(D,)``, or None.

    >>> distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])).tolist()
    [[5.0]]
    >>> distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0])).tolist()
    [[11.0]]
    """
    if scale is None:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.cdist(a * scale, b * scale, p=1.0)


def similarity(query: Tensor, support: Tensor, parameters: Tensor) -> Tensor:
    """Return the learned similarity of all pairs of cells, a logit: offset minus a weighted l1 distance (Koch et al.).

    Args:
        query: ``(P, D)``.
        support: ``(M, D)``.
        parameters: ``(D + 1,)``; the weights are softplus of the first D, over sqrt(D); the last is the offset.

    Returns:
        ``(P, M)``.
    """
    return parameters[-1] - distances(query, support, similarity_scale(parameters))


def similarity_scale(parameters: Tensor) -> Tensor:
    """Return the weights of the l1 distance, ``(D,)``, positive."""
    return softplus(parameters[:-1]) / (len(parameters) - 1) ** 0.5


def some_cells(features: Tensor, objects: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Draw known cells of a map, half of them the object's where there are so many: ``(P, D)`` and ``(P,)`` bool."""
    places = []
    for kind in (objects & known, ~objects & known):
        rows = kind.flatten().nonzero()[:, 0]
        places.append(rows[torch.randperm(len(rows), device=rows.device)[: VERIFIED // 2]])
    chosen = torch.cat(places)
    return features.flatten(1).T[chosen], objects.flatten()[chosen]


def logistic_regression(
    cells: Tensor, objects: Tensor, c: float = 1.0, max_iter: int = 100, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """Minimise ``|w|^2 / 2 + c * sum(log loss)`` with L-BFGS; scikit-learn's objective, b unregularised.

    Args:
        cells: ``(M, D)``.
        objects: ``(M,)`` bool.
        c: Inverse strength of the regularisation.
        max_iter: Iterations at most.
        tolerance: Greatest gradient at which it stops.

    Returns:
        w ``(D,)`` and b, a scalar.
    """
    cells, target = cells.detach(), objects.to(cells.dtype)
    parameters = torch.zeros(cells.shape[1] + 1, device=cells.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=max_iter, tolerance_grad=tolerance, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        weight, bias = parameters[:-1], parameters[-1]
        losses = binary_cross_entropy_with_logits(cells @ weight + bias, target, reduction="sum")
        objective = weight.square().sum() / 2 + c * losses
        objective.backward()
        return objective

    with torch.enable_grad():
        optimizer.step(closure)
    return parameters.detach()[:-1], parameters.detach()[-1]


def finetune(
    top: nn.Sequential,
    maps: Sequence[Tensor],
    objects: Sequence[Tensor],
    classes: Tensor,
    n: int,
    steps: int,
    lr: float,
    known: Sequence[Tensor] | None = None,
) -> tuple[Mapping[str, Tensor], Tensor, Tensor]:
    """Fine-tune fc6, fc7 and a new fc8 on the support (Caelles et al., CVPR 2017; section 6).

    fc8 sees batch-normalised fc7 features, with which it converges faster (section 6); the normalisation by the
    support's statistics is folded into the w and b that are returned. The layers given stay as they are.

    Args:
        top: fc6 and fc7.
        maps: What fc6 sees, ``(C, h, w)`` of each shot.
        objects: ``(h, w)`` bool of each shot.
        classes: ``(S,)``, class of each shot in [0, n).
        n: Classes; each has a row of fc8.
        steps: Gradient steps of Adam.
        lr: Its learning rate.
        known: ``(h, w)`` bool of each shot, the cells that count in the loss; None: all.

    Returns:
        The parameters of fc6 and fc7, w ``(n, D)`` and b ``(n,)``.
    """
    tuned = {name: p.detach().clone().requires_grad_(True) for name, p in top.named_parameters()}
    width = [layer for layer in top if isinstance(layer, nn.Conv2d)][-1].out_channels
    weight = torch.zeros(n, width, device=classes.device, requires_grad=True)
    bias = torch.zeros(n, device=classes.device, requires_grad=True)
    same = len({m.shape for m in maps}) == 1
    batches = [torch.stack(list(maps))] if same else [m[None] for m in maps]
    target = torch.cat([o.flatten() for o in objects]).float()
    counted = torch.ones_like(target) if known is None else torch.cat([k.flatten() for k in known]).float()
    owner = torch.cat([label.expand(o.numel()) for label, o in zip(classes, objects, strict=True)])

    def cells() -> Tensor:  # (M, D)
        found = [functional_call(top, tuned, batch).float() for batch in batches]
        return torch.cat([f.flatten(2).transpose(1, 2).flatten(0, 1) for f in found])

    def normalised(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = features.mean(0), (features.var(0, correction=0) + EPSILON).sqrt()
        return (features - mean) / spread, mean, spread

    optimizer = torch.optim.Adam([*tuned.values(), weight, bias], lr=lr)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            inputs, _, _ = normalised(cells())
            logits = (inputs * weight[owner]).sum(1) + bias[owner]
            losses = binary_cross_entropy_with_logits(logits, target, counted, reduction="sum")
            (losses / counted.sum()).backward()
            optimizer.step()
    with torch.no_grad():
        _, mean, spread = normalised(cells())
        folded = weight / spread
        return {name: p.detach() for name, p in tuned.items()}, folded, bias - folded @ mean
