"""The losses of OSLSM, eq. (3), and of its baselines (section 6), on logits that are upsampled to the masks.

Shapes: M masks to find, each over one image or several, B images, (H, W) pixels, N training classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from lightning_fewshot.episodes import VOID
from lightning_fewshot.models.oslsm.settings import Reduction


def pixel_loss(logits: Tensor, target: Tensor, reduction: Reduction = "mean", positive_weight: float = 1.0) -> Tensor:
    """Return the negative log likelihood of true masks, eq. (3); void pixels do not count.

    Args:
        logits: ``(M, ..., H, W)``.
        target: The same shape, uint8: 1 object, 0 background, 255 void.
        reduction: "mean" over all known pixels; "sum" over those of a mask and mean over masks, as in the paper, whose
            learning rate of 1e-10 belongs to it.
        positive_weight: Weight of the object's pixels; 1 in the paper. The mean does not divide by it.

    >>> float(pixel_loss(torch.zeros(1, 1, 3), torch.tensor([[[0, 1, 255]]], dtype=torch.uint8), "sum"))
    1.3862943649291992
    """
    known = (target != VOID).to(logits.dtype)
    truth = (target == 1).to(logits.dtype)
    losses = binary_cross_entropy_with_logits(
        logits, truth, known, reduction="sum", pos_weight=logits.new_full((), positive_weight)
    )
    return losses / (len(target) if reduction == "sum" else known.sum().clamp(min=1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 minus the soft Dice overlap of masks, mean over M (Milletari et al., 3DV 2016, without squares).

    Where eq. (3) is unsure of a rare object it predicts nothing; the overlap, like IoU, is better served by the guess.
    A mask that goes over several images has one overlap, as a class has one IoU.

    Args:
        logits: ``(M, ..., H, W)``.
        target: The same shape, uint8: 1 object, 0 background, 255 void, which does not count.

    >>> dice_loss(torch.zeros(1, 1, 3), torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)).item()
    0.5
    """
    probability = (logits.sigmoid() * (target != VOID)).flatten(1)
    truth = (target == 1).to(logits.dtype).flatten(1)
    shared = (probability * truth).sum(1)
    return (1 - 2 * shared / (probability.sum(1) + truth.sum(1)).clamp(min=1)).mean()


def base_loss(logits: Tensor, masks: Tensor, numbers: Tensor) -> Tensor:
    """Return the mean cross-entropy of the base classifier: background and all training classes (section 6).

    Args:
        logits: ``(B, 1 + N, H, W)``.
        masks: ``(B, H, W)`` uint8, class masks of the batch: 1 + i is the batch's class i.
        numbers: The training class, in [0, N), of each of the batch's classes.
    """
    table = torch.zeros(256, dtype=torch.int64, device=masks.device)
    table[1 : 1 + len(numbers)] = numbers + 1
    table[VOID] = -1
    target = table[masks.long()]
    losses = cross_entropy(logits, target, ignore_index=-1, reduction="sum")
    return losses / (target >= 0).sum().clamp(min=1)


def verification_loss(similarity: Tensor, same: Tensor) -> Tensor:
    """Return the loss of telling whether two pixels are of one class, pairs of both kinds weighing equally.

    Args:
        similarity: ``(...)`` logits.
        same: ``(...)`` bool.

    >>> float(verification_loss(torch.tensor([0.0, 0.0, 0.0]), torch.tensor([True, False, False])).exp())
    2.0
    """
    losses = binary_cross_entropy_with_logits(similarity, same.to(similarity.dtype), reduction="none")
    kinds = [losses[kind].mean() for kind in (same, ~same) if bool(kind.any())]
    return torch.stack(kinds).mean()
