"""The losses of an embedding: RepMet's margin between right and wrong modes, eq. (4), and the triplet loss.

Shapes: R rois, N classes, K modes. Labels: 0 is background, class i of the episode is i + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-12  # inside the square root, whose slope at 0 is infinite


def embedding_loss(
    distances: Tensor,
    labels: Tensor,
    margin: float,
    used: Tensor | None = None,
    *,
    squared: bool = False,
    background: bool = False,
) -> Tensor:
    """Return ``relu(min_j d(E, R_i*j) - min_{j, i != i*} d(E, R_ij) + margin)`` of each roi, eq. (4).

    Args:
        distances: Squared distances, ``(R, N, K)``.
        labels: ``(R,)`` in [0, N].
        margin: alpha; the embedding has unit length, so distances lie in [0, 2].
        used: ``(N, K)`` bool, modes that exist.
        squared: Compare squared distances; the margin is one of these then.
        background: Count background too: its first distance is the objects' mean. Otherwise it has 0.

    Returns:
        ``(R,)``, not negative.
    """
    if not squared:
        distances = (distances + TINY).sqrt()
    if used is not None:
        distances = distances.masked_fill(~used, float("inf"))
    nearest = distances.amin(dim=-1)  # (R, N)
    is_true = labels[:, None] == torch.arange(1, nearest.shape[1] + 1, device=labels.device)
    right = nearest.masked_fill(~is_true, 0).sum(dim=-1)
    wrong = nearest.masked_fill(is_true, float("inf")).amin(dim=-1)
    foreground = labels > 0
    if not background:
        return (right - wrong + margin).clamp(min=0) * foreground  # eq. (4)
    typical = right.sum() / foreground.sum().clamp(min=1)
    return (torch.where(foreground, right, typical) - wrong + margin).clamp(min=0)


def triplet_loss(embedded: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return the mean hardest-negative triplet loss over all (anchor, positive) pairs of a batch.

    baseline-DML-external trains its embedding with the triplet loss (Weinberger and Saul, JMLR 2009; section 5.2).
    Background rois (label 0) are negatives only.

    Args:
        embedded: ``(R, e)`` of unit length.
        labels: ``(R,)``, 0 is background.
        margin: By how much a negative must be farther than the positive.
    """
    distances = (2 - 2 * embedded @ embedded.T).clamp(min=TINY).sqrt()
    same = labels[:, None] == labels[None, :]
    pairs = same & (labels > 0)[:, None] & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    nearest_negative = distances.masked_fill(same, float("inf")).amin(dim=1, keepdim=True)
    hinge = (distances - nearest_negative + margin).clamp(min=0)
    return (hinge * pairs).sum() / pairs.sum().clamp(min=1)
