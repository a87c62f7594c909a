"""Adapting a head as RT-MDNet does: SGD with momentum, weight decay, clipped gradients and dropout.

Shapes: P clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.optim import SGD

from lightning_fewshot.tracking.candidates.head import Head, classification_loss, score
from lightning_fewshot.tracking.candidates.samples import Samples, draw_batch
from lightning_fewshot.tracking.candidates.settings import Batches

CLIP = 10.0  # largest norm of a gradient; these four are RT-MDNet's
LAST_FACTOR = 10.0  # learning rate of fc6, as a multiple of that of fc4 and fc5
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


def adapt_sgd(
    head: Head,
    data: Samples,
    batches: Batches,
    generator: Generator,
    steps: int,
    lr: float,
    drop: float = 0.5,
    clip: float = CLIP,
) -> Head:
    """Adapt the heads of all clips, each to its own samples.

    Args:
        head: Start; not changed.
        data: All samples.
        batches: Numbers of samples.
        generator: On the CPU.
        steps: K.
        lr: Learning rate of fc4 and fc5; ten times that for fc6.
        drop: Share of dropped inputs of fc5 and fc6.
        clip: Largest norm of a clip's gradient.
    """
    with torch.enable_grad():
        leaves = {name: p.detach().clone().requires_grad_() for name, p in head.items()}
        optimizer = _optimizer(leaves, lr)
        for _ in range(steps):
            batch = draw_batch(leaves, data, batches, generator)
            logits = score(leaves, batch.joined(), drop=drop)
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


def _optimizer(leaves: Head, lr: float) -> SGD:
    last = [p for name, p in leaves.items() if name.startswith("fc6")]
    others = [p for name, p in leaves.items() if not name.startswith("fc6")]
    groups = [{"params": others, "lr": lr}, {"params": last, "lr": lr * LAST_FACTOR}]
    return SGD(groups, lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
