"""The threshold of a segmenter, chosen by mean IoU on validation episodes in one pass.

Scores are counted in a histogram for each pair, once for the object's pixels and once for the others, so that the pairs
can be counted at any threshold afterwards.

Shapes: P pairs, T thresholds, (H, W) pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_fewshot.episodes import VOID, Segmentation
from lightning_fewshot.metrics.estimate import Estimate, exact
from lightning_fewshot.metrics.segmentation import COUNTS, SegmentationMetrics, mean_iou

LOGITS = torch.linspace(-10, 10, 401)  # the thresholds that are tried


def threshold_counts(probs: Tensor, target: Tensor) -> Tensor:
    """Count the pixels of one pair at every threshold.

    Args:
        probs: ``(H, W)``, probability of the object.
        target: ``(H, W)`` uint8: 1 object, 0 background, 255 void, which does not count.

    Returns:
        ``(T, 4)`` true positives, false positives, false negatives, true negatives.

    >>> counts = threshold_counts(torch.tensor([[0.6, 0.9, 0.7, 0.2]]), torch.tensor([[0, 1, 1, 255]]))
    >>> counts[[150, 200, 240]].tolist()
    [[2, 1, 0, 0], [2, 1, 0, 0], [1, 0, 1, 1]]
    """
    logits = torch.logit(probs.double()).to(LOGITS)
    above = torch.bucketize(logits, LOGITS)  # how many thresholds a pixel exceeds
    size = len(LOGITS) + 1
    true, false = (torch.bincount(above[target == value], minlength=size) for value in (1, 0))
    tp, fp = (h.flip(0).cumsum(0).flip(0)[1:] for h in (true, false))
    return torch.stack([tp, fp, true.sum() - tp, false.sum() - fp], dim=1)


class ThresholdSweep(SegmentationMetrics):
    """Segmentation metrics at the threshold of highest mean IoU, and that threshold: ``threshold``, a probability.

    Predictions must have ``probs``; their masks are not looked at. A tie goes to what is
    nearest to one half.

    Args:
        options: See SegmentationMetrics.
    """

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.add_state("sweeps", default=[], dist_reduce_fx="cat")

    def _add(self, pred: Segmentation, mask: Tensor, asked: list[int], numbers: list[int]) -> None:
        super()._add(pred, mask, asked, numbers)
        for probs, label in zip(pred.probs, asked, strict=True):
            target = (mask == label + 1).to(torch.uint8).masked_fill_(mask == VOID, VOID)
            self.sweeps.append(threshold_counts(probs.cpu(), target.cpu()).float().flatten())

    def compute(self) -> dict[str, Estimate]:
        """Choose the threshold; sum, divide and resample what was counted at it."""
        parts = [self.sweeps] if isinstance(self.sweeps, Tensor) else self.sweeps
        if not len(parts):
            return super().compute()
        sweeps = torch.cat([p.cpu() for p in parts]).view(-1, len(LOGITS), len(COUNTS))
        classes = torch.cat([p.cpu() for p in ([self.classes] if isinstance(self.classes, Tensor) else self.classes)])
        best = best_threshold(sweeps, classes.unique(return_inverse=True)[1])
        for name, column in zip(COUNTS, sweeps[:, best].unbind(1), strict=True):
            setattr(self, name, [column])
        chosen = LOGITS[best].sigmoid().item()
        return super().compute() | {"threshold": exact(chosen, len(sweeps))}


def best_threshold(sweeps: Tensor, classes: Tensor) -> int:
    """Return the number of the threshold of highest mean IoU.

    Args:
        sweeps: ``(P, T, 4)``.
        classes: ``(P,)`` in [0, C).
    """
    once = torch.ones(1, len(sweeps), dtype=torch.float64)
    values = torch.cat([mean_iou(counts, classes, once) for counts in sweeps.unbind(1)])
    best = (values >= values[~values.isnan()].max() - 1e-12).nonzero()[:, 0]
    return int(best[LOGITS[best].abs().argmin()])
