"""Gradient steps on the head: with learned rates (MetaRTT, eqs. 2 and 3), or SGD with momentum (RT-MDNet).

Every clip of a batch has its own head; a step is one batched computation over all of them.

Shapes: P clips, A positive and B negative samples, F features, K steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from lightning_fewshot.models.metartt.loss import classification_loss, margin
from lightning_fewshot.models.metartt.network import Head, score

CLIP = 10.0  # RT-MDNet's


class Samples(NamedTuple):
    """A data set D: features ``(P, A, F)`` of positive and ``(P, B, F)`` of negative samples."""

    positives: Tensor
    negatives: Tensor

    def joined(self) -> Tensor:
        """Return all, positive ones first: ``(P, A + B, F)``."""
        return torch.cat(self, dim=1)


class Batches(NamedTuple):
    """What a gradient step sees.

    Args:
        positives: Positive samples of a step.
        negatives: Negative samples of a step.
        mined: Negative samples that are scored to take the hardest from; 0: they are drawn at random.
    """

    positives: int = 32
    negatives: int = 96
    mined: int = 1024


def draw_batch(head: Head, data: Samples, batches: Batches, generator: Generator, masks: Head | None = None) -> Samples:
    """Draw the samples of one gradient step; the hardest negatives are those that look most like the target.

    Args:
        head: Scores the negatives that are mined, without gradients.
        data: All samples.
        batches: Numbers.
        generator: On the CPU.
        masks: Of fc4 and fc5.
    """
    positives = _take(data.positives, _draw(data.positives, batches.positives, generator))
    negatives = data.negatives
    mined = max(batches.mined, batches.negatives) if batches.mined else batches.negatives
    if mined < negatives.shape[1]:
        negatives = _take(negatives, _draw(negatives, mined, generator))
    if batches.negatives < negatives.shape[1]:
        with torch.no_grad():
            hardness = margin(score(head, negatives, masks))
        negatives = _take(negatives, hardness.topk(batches.negatives, dim=1).indices)
    return Samples(positives, negatives)


def gradient_step(
    head: Head,
    rates: Head,
    data: Samples,
    masks: Head | None = None,
    first_order: bool = False,
    recompute: bool = False,
    clip: float = CLIP,
) -> Head:
    """Return the head after one step, eq. (2) or (3).

    Args:
        head: ``(P, ...)``.
        rates: alpha^k: a factor for every element, or one that broadcasts.
        data: D of this step.
        masks: Of fc4 and fc5.
        first_order: Treat the gradient as a constant: no second derivatives.
        recompute: Keep no activations for the backward pass, but compute them again; gradients are equal.
        clip: Largest norm of a clip's gradient.
    """
    if recompute and torch.is_grad_enabled() and not first_order:
        names, n = list(head), len(head)
        stepped = _RecomputedStep.apply(
            (names, masks, clip), data.positives, data.negatives, *head.values(), *(rates[k] for k in names)
        )
        return dict(zip(names, stepped[:n], strict=True))
    return _step(head, rates, data, masks, clip, create_graph=torch.is_grad_enabled() and not first_order)


def adapt(
    head: Head,
    rates: Sequence[Head],
    data: Samples,
    batches: Batches,
    generator: Generator,
    masks: Head | None = None,
    first_order: bool = False,
    recompute: bool = False,
    clip: float = CLIP,
) -> list[Head]:
    """Take K steps with the rates of each step; return the heads after every one of them.

    Args:
        head: theta^0.
        rates: alpha^1 to alpha^K.
        data: D; each step draws its batch from it.
        batches: Numbers of samples.
        generator: On the CPU.
        masks: Of fc4 and fc5.
        first_order: See :func:`gradient_step`.
        recompute: See :func:`gradient_step`.
        clip: See :func:`gradient_step`.
    """
    heads = []
    for rate in rates:
        batch = draw_batch(head, data, batches, generator, masks)
        head = gradient_step(head, rate, batch, masks, first_order, recompute, clip)
        heads.append(head)
    return heads


def adapt_sgd(
    head: Head,
    data: Samples,
    batches: Batches,
    generator: Generator,
    steps: int,
    lr: float,
    last_factor: float = 10.0,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    clip: float = CLIP,
    drop: float = 0.5,
    masks: Head | None = None,
) -> Head:
    """Adapt as RT-MDNet does: SGD with momentum, weight decay, clipped gradients, dropout.

    Args:
        head: Start; not changed.
        data: All samples.
        batches: Numbers of samples.
        generator: On the CPU.
        steps: K.
        lr: Learning rate of fc4 and fc5.
        last_factor: Times that for fc6.
        momentum: Of SGD.
        weight_decay: Of SGD.
        clip: Largest norm of a clip's gradient.
        drop: Share of dropped inputs of fc5 and fc6.
        masks: Of fc4 and fc5.
    """
    with torch.enable_grad():
        leaves = {name: p.detach().clone().requires_grad_() for name, p in head.items()}
        groups = [
            {"params": [leaves[k] for k in leaves if (k.startswith("fc6")) is last], "lr": lr * factor}
            for last, factor in ((False, 1.0), (True, last_factor))
        ]
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        for _ in range(steps):
            batch = draw_batch(leaves, data, batches, generator, masks)
            logits = score(leaves, batch.joined(), masks, drop)
            optimizer.zero_grad()
            classification_loss(logits, batch.positives.shape[1]).sum().backward()
            for p, gradient in zip(leaves.values(), clipped([p.grad for p in leaves.values()], clip), strict=True):
                p.grad = gradient
            optimizer.step()
    return {name: p.detach() for name, p in leaves.items()}


def clipped(gradients: Sequence[Tensor], limit: float) -> list[Tensor]:
    """Scale the gradients ``(P, ...)`` of every clip so that, all taken together, none is longer than ``limit``.

    >>> torch.cat(clipped([torch.tensor([[3.0], [0.3]]), torch.tensor([[4.0], [0.4]])], 1.0), dim=1)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    length = (torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0) + 1e-12).sqrt()
    factor = (limit / length).clamp(max=1)
    return [g * factor.view(-1, *[1] * (g.ndim - 1)) for g in gradients]


def _step(head: Head, rates: Head, data: Samples, masks: Head | None, clip: float, create_graph: bool) -> Head:
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        inner = {k: p if create_graph and p.requires_grad else p.detach().requires_grad_() for k, p in head.items()}
        features = data.joined() if create_graph else data.joined().detach()
        loss = classification_loss(score(inner, features, masks), data.positives.shape[1]).sum()  # eq. (1)
        gradients = clipped(torch.autograd.grad(loss, list(inner.values()), create_graph=create_graph), clip)
    with torch.set_grad_enabled(keep):
        return {
            name: p - rates[name] * gradient  # eqs. (2) and (3)
            for (name, p), gradient in zip(head.items(), gradients, strict=True)
        }


class _RecomputedStep(torch.autograd.Function):
    """One step that keeps its inputs only; the backward pass takes the step again, with its graph."""

    @staticmethod
    def forward(ctx: Any, constants: tuple[list[str], Head | None, float], *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the parameters after the step, in the order of the names."""
        ctx.constants = constants
        ctx.save_for_backward(*tensors)
        return tuple(_RecomputedStep._run(constants, tensors, create_graph=False).values())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of samples, parameters and rates."""
        needed = ctx.needs_input_grad[1:]
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(need) for t, need in zip(ctx.saved_tensors, needed, strict=True)]
            stepped = _RecomputedStep._run(ctx.constants, leaves, create_graph=True)
            wanted = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
            found = iter(torch.autograd.grad(list(stepped.values()), wanted, gradients, allow_unused=True))
        return (None, *(next(found) if need else None for need in needed))

    @staticmethod
    def _run(constants: tuple[list[str], Head | None, float], tensors: Sequence[Tensor], create_graph: bool) -> Head:
        names, masks, clip = constants
        n = len(names)
        head = dict(zip(names, tensors[2 : 2 + n], strict=True))
        rates = dict(zip(names, tensors[2 + n :], strict=True))
        return _step(head, rates, Samples(*tensors[:2]), masks, clip, create_graph)


def _draw(samples: Tensor, n: int, generator: Generator) -> Tensor:
    """Draw ``n`` indices ``(P, n)`` of samples ``(P, A, F)``, each once where there are enough."""
    clips, count = samples.shape[:2]
    if n > count:
        drawn = torch.randint(count, (clips, n), generator=generator)
    else:
        drawn = torch.rand(clips, count, generator=generator).argsort(dim=1)[:, :n]
    return drawn.to(samples.device)


def _take(samples: Tensor, indices: Tensor) -> Tensor:
    """Take samples ``(P, n, F)`` by their indices ``(P, n)``."""
    if len(samples) == 1:
        return samples[:, indices[0]]
    rows = indices + samples.shape[1] * torch.arange(len(samples), device=samples.device)[:, None]
    return samples.flatten(0, 1)[rows]
