"""Data sets of samples, and the batch that one gradient step sees of them.

Shapes: P clips, A positive and B negative samples, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from lightning_fewshot.tracking.candidates.head import Head, margin, score
from lightning_fewshot.tracking.candidates.settings import Batches


class Samples(NamedTuple):
    """A data set D: features ``(P, A, F)`` of positive and ``(P, B, F)`` of negative samples."""

    positives: Tensor
    negatives: Tensor

    def joined(self) -> Tensor:
        """Return all, positive ones first: ``(P, A + B, F)``."""
        return torch.cat(self, dim=1)


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


def _draw(samples: Tensor, n: int, generator: Generator) -> Tensor:
    """Draw ``n`` indices ``(P, n)`` of samples ``(P, A, F)``, each once where there are enough."""
    clips, count = samples.shape[:2]
    if n > count:
        drawn = torch.randint(count, (clips, n), generator=generator)
    else:
        drawn = torch.rand(clips, count, generator=generator).argsort(dim=1)[:, :n]
    return drawn.to(samples.device, non_blocking=True)


def _take(samples: Tensor, indices: Tensor) -> Tensor:
    """Take samples ``(P, n, F)`` by their indices ``(P, n)``."""
    if len(samples) == 1:
        return samples.index_select(1, indices[0])  # twice as fast as indexing
    rows = indices + samples.shape[1] * torch.arange(len(samples), device=samples.device)[:, None]
    return samples.flatten(0, 1)[rows]
