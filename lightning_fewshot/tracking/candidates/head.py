"""The head: three fully connected layers that score samples, as pure functions of their parameters.

Its parameters travel as a dictionary whose tensors have a leading dimension, one head a clip, so that every clip of a
batch is adapted on its own in one batched computation.

Shapes: P clips, R samples, A positive ones, F features of a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import dropout, relu, softplus

Head = dict[str, Tensor]

LAYERS = ("fc4", "fc5", "fc6")
POSITIVE, NEGATIVE = 0, 1  # [1, 0] is the positive label (MetaRTT, section 3, "Objective")


def head_maps(head: Head, features: Tensor, masks: Head | None = None, drop: float = 0.0) -> Head:
    """Return what each layer of the head gives: fc4 and fc5 after the ReLU ``(P, R, .)``, fc6 the logits ``(P, R, 2)``.

    Args:
        head: Parameters ``(P, ...)`` by name.
        features: ``(P, R, F)``.
        masks: Multiply fc4 and fc5 by their masks ``(P, .)``, MetaRTT's eq. (10).
        drop: Share of the inputs of fc5 and fc6 that is dropped.
    """
    maps: Head = {}
    x = features
    for name in LAYERS:
        x = torch.baddbmm(head[f"{name}.bias"][:, None], x, head[f"{name}.weight"].mT)
        if name != "fc6":
            x = relu(x)
            if masks is not None:
                x = x * masks[name][:, None]  # eq. (10)
            maps[name] = x
            x = dropout(x, drop) if drop else x
    return {**maps, "fc6": x}


def score(head: Head, features: Tensor, masks: Head | None = None, drop: float = 0.0) -> Tensor:
    """Return f(x; theta), logits ``(P, R, 2)``; arguments as in :func:`head_maps`.

    >>> ones = {f"{k}.weight": torch.ones(1, n, 2) for k, n in (("fc4", 2), ("fc5", 2), ("fc6", 2))}
    >>> ones |= {f"{k}.bias": torch.zeros(1, 2) for k in ("fc4", "fc5", "fc6")}
    >>> score(ones, torch.tensor([[[1.0, 2.0]]])).tolist()  # 3 + 3, twice
    [[[12.0, 12.0]]]
    """
    return head_maps(head, features, masks, drop)["fc6"]


def margin(logits: Tensor) -> Tensor:
    """Return the log odds ``(...)`` of being the target, from logits ``(..., 2)``.

    >>> margin(torch.tensor([3.0, 1.0])).item()
    2.0
    """
    return logits[..., POSITIVE] - logits[..., NEGATIVE]


def classification_loss(logits: Tensor, positives: int) -> Tensor:
    """Return the cross-entropy of each clip, MetaRTT's eq. (1).

    Args:
        logits: ``(P, R, 2)``; the first samples are the positive ones.
        positives: Their number, A.

    Returns:
        ``(P,)``.

    >>> classification_loss(torch.tensor([[[0.0, 0.0], [0.0, 0.0]]]), 1).item() == torch.log(torch.tensor(2.0)).item()
    True
    """
    odds = margin(logits)
    return torch.cat((softplus(-odds[:, :positives]), softplus(odds[:, positives:])), dim=1).mean(1)  # eq. (1)
