"""Region similarity J of video segmentation (Perazzi et al., CVPR 2016, section 4.1): IoU, frame by frame.

J of a sequence is the mean over its frames, J of a data set the mean over its sequences. As in the benchmark's own
code, neither the first frame of a sequence, whose mask is given, nor its last one counts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def region_similarity(counts: Tensor, sequences: Tensor) -> Tensor:
    """Return J of each sequence.

    Args:
        counts: ``(P, 4)`` pixels of P frames: true positives, false positives, false negatives, true negatives.
        sequences: ``(P,)`` int64, the sequence of each frame.

    Returns:
        ``(S,)`` float64, by rising number of the sequence. A frame with neither object nor prediction has J = 1.

    >>> counts = torch.tensor([[6, 2, 0, 9], [0, 0, 0, 17], [1, 1, 2, 9]])
    >>> region_similarity(counts, torch.tensor([3, 3, 5])).tolist()
    [0.875, 0.25]
    """
    union = counts[:, :3].sum(1).double()
    frames = torch.where(union > 0, counts[:, 0].double() / union.clamp(min=1), 1.0)
    numbers, places, sizes = sequences.unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(numbers), dtype=torch.float64).index_add(0, places, frames) / sizes


def counted_frames(n_queries: int) -> Tensor:
    """Return which queries of a video, all its frames after the first, count: ``(Q,)`` bool, all but the last.

    >>> counted_frames(3).tolist()
    [True, True, False]
    """
    return torch.arange(n_queries) < n_queries - 1
