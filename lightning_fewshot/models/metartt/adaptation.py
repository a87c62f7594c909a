"""The inner loop: gradient steps with learned rates, eqs. (2) and (3), through which eq. (8) is differentiated.

Every clip of a batch has its own head; a step is one batched computation over all of them.

Shapes: P clips, A positive and B negative samples, F features, K steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from lightning_fewshot.tracking.candidates.head import Head, classification_loss, score
from lightning_fewshot.tracking.candidates.samples import Samples, draw_batch
from lightning_fewshot.tracking.candidates.settings import Batches
from lightning_fewshot.tracking.candidates.sgd import CLIP, clipped


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
    differentiated = torch.is_grad_enabled() and not first_order
    if recompute and differentiated:
        names = list(head)
        constants = (names, masks, clip)
        stepped = _RecomputedStep.apply(constants, *data, *head.values(), *(rates[k] for k in names))
        return dict(zip(names, stepped, strict=True))
    return _step(head, rates, data, masks, clip, create_graph=differentiated)  # eq. (8) needs the graph


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
        head = gradient_step(head, rate, batch, masks=masks, first_order=first_order, recompute=recompute, clip=clip)
        heads.append(head)
    return heads


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
            products = iter(
                torch.autograd.grad(list(stepped.values()), wanted, gradients, allow_unused=True)
            )  # eq. (8)
        return (None, *(next(products) if need else None for need in needed))

    @staticmethod
    def _run(constants: tuple[list[str], Head | None, float], tensors: Sequence[Tensor], create_graph: bool) -> Head:
        names, masks, clip = constants
        n = len(names)
        head = dict(zip(names, tensors[2 : 2 + n], strict=True))
        rates = dict(zip(names, tensors[2 + n :], strict=True))
        return _step(head, rates, Samples(*tensors[:2]), masks, clip, create_graph)
