"""From support rois to the head of an episode, and what that head says of new rois.

RepMet, section 5.2: the representatives become the embeddings of the support objects' rois; fine-tuning changes the
last embedding layer and the representatives only. The baselines of table 3 are the same steps with another feature
(baseline-DML, baseline-DML-external) or with a linear layer (baseline-FT).

Shapes: R rois, F features, e embedding, N classes, K modes of a class.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize
from torchvision.ops import box_iou

from lightning_fewshot.models.repmet.head import (
    LogitKind,
    class_posterior,
    mode_probabilities,
    posterior_logits,
    squared_distances,
)
from lightning_fewshot.models.repmet.loss import embedding_loss, hardest

SUPPORT_IOU = 0.7  # section 5.2
FOREGROUND_IOU = 0.5
REFRESH = 10  # fine-tuning steps between two choices of hard examples


class MetricHead(NamedTuple):
    """Head that compares embeddings with representatives.

    Args:
        weight: ``(e, F)`` last embedding layer.
        bias: ``(e,)``.
        representatives: ``(N, K, e)``, brought to unit length where they are used.
        used: ``(N, K)`` bool; classes with fewer embeddings than K leave slots unused.
    """

    weight: Tensor
    bias: Tensor
    representatives: Tensor
    used: Tensor


class LinearHead(NamedTuple):
    """Softmax classifier: ``(1 + N, F)`` weight and ``(1 + N,)`` bias, background first."""

    weight: Tensor
    bias: Tensor


class MetricRule(NamedTuple):
    """Constants of the metric head: sigma of eq. (1), margin of eq. (4), scale and kind of the posterior's logits."""

    sigma: float
    margin: float
    scale: float
    kind: LogitKind = "log"


def support_rois(proposals: Tensor, boxes: Tensor, per_box: int) -> tuple[Tensor, Tensor]:
    """Choose the rois that stand for the support boxes of one image: the best proposals with IoU >= 0.7.

    A box that no proposal covers stands for itself.

    Args:
        proposals: ``(P, 4)``.
        boxes: ``(M, 4)``.
        per_box: Rois of a box at most.

    Returns:
        Rois ``(R, 4)`` and the number of the box of each, ``(R,)``.

    >>> support_rois(torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]]), torch.tensor([[0.0, 0, 10, 11]]), 5)
    (tensor([[ 0.,  0., 10., 10.]]), tensor([0]))
    """
    candidates = torch.cat([proposals, boxes])
    iou = box_iou(boxes, candidates)
    iou[:, len(proposals) :] = SUPPORT_IOU * torch.eye(len(boxes), device=iou.device)  # itself, as the last resort
    best = iou.topk(min(per_box, len(candidates)), dim=1)
    kept = best.values > SUPPORT_IOU
    kept[:, 0] = True
    box, rank = kept.nonzero(as_tuple=True)
    return candidates[best.indices[box, rank]], box


def label_rois(rois: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Label the rois of one image by the true box of largest IoU, at least 0.5; return labels (0 background), boxes.

    >>> rois = torch.tensor([[0.0, 0.0, 9.0, 9.0], [20.0, 20.0, 30.0, 30.0]])
    >>> label_rois(rois, torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([4]))[0]
    tensor([5, 0])
    """
    if len(boxes) == 0:
        return torch.zeros(len(rois), dtype=torch.long, device=rois.device), rois
    best, index = box_iou(rois, boxes).max(dim=1)
    return torch.where(best >= FOREGROUND_IOU, labels[index] + 1, 0), boxes[index]


def gather_representatives(embedded: Tensor, labels: Tensor, n_classes: int, n_slots: int) -> tuple[Tensor, Tensor]:
    """Sort embeddings into the slots of their classes, in order of appearance.

    Args:
        embedded: ``(R, e)``.
        labels: ``(R,)`` in [0, N).
        n_classes: N.
        n_slots: K; further embeddings of a class are left out.

    Returns:
        ``(N, K, e)`` and the slots that are used, ``(N, K)``.
    """
    one_hot = torch.nn.functional.one_hot(labels, n_classes)
    slot = (one_hot.cumsum(dim=0) - 1).gather(1, labels[:, None])[:, 0]
    fits = slot < n_slots
    representatives = embedded.new_zeros(n_classes, n_slots, embedded.shape[1])
    used = torch.zeros(n_classes, n_slots, dtype=torch.bool, device=embedded.device)
    representatives[labels[fits], slot[fits]] = embedded[fits]
    used[labels[fits], slot[fits]] = True
    return representatives, used


def embed(head: MetricHead, features: Tensor) -> Tensor:
    """Return the embedding of ``(R, F)`` features by the head's last layer, ``(R, e)`` of unit length."""
    return normalize(linear(features, head.weight, head.bias), dim=-1)


def distances(head: MetricHead, features: Tensor) -> Tensor:
    """Return squared distances to the head's representatives, ``(R, N, K)``."""
    return squared_distances(embed(head, features), normalize(head.representatives, dim=-1))


def class_scores(head: MetricHead | LinearHead, features: Tensor, rule: MetricRule) -> Tensor:
    """Return the score of every class for every roi, ``(R, N)`` in [0, 1]: eq. (2), or a softmax."""
    if isinstance(head, LinearHead):
        return linear(features, head.weight, head.bias).softmax(dim=1)[:, 1:]
    return class_posterior(mode_probabilities(distances(head, features), rule.sigma, head.used))


def finetune(
    head: MetricHead | LinearHead,
    features: Tensor,
    labels: Tensor,
    rule: MetricRule,
    steps: int,
    lr: float,
    n_hard: int = 512,
) -> MetricHead | LinearHead:
    """Fine-tune a head on the rois of the support images (table 3, right half); the rest of the network stays.

    Args:
        head: What to start from; it is not changed.
        features: ``(R, F)`` of all proposals of the support images, not only of the objects.
        labels: ``(R,)``, 0 is background.
        rule: Constants of the loss.
        steps: Gradient steps, each on the objects' rois and the background of highest loss.
        lr: Learning rate of Adam.
        n_hard: Rois of a step; they are chosen anew every ten steps.

    Returns:
        A head of the same kind.
    """
    with torch.enable_grad():
        tuned = type(head)(*(_leaf(part) for part in head))
        optimizer = torch.optim.Adam([part for part in tuned if part.requires_grad], lr=lr)
        for step in range(steps):
            if step % REFRESH == 0:
                kept = _hard_examples(tuned, features, labels, rule, n_hard)
            optimizer.zero_grad()
            _episode_losses(tuned, features[kept], labels[kept], rule).mean().backward()
            optimizer.step()
    return type(head)(*(part.detach() for part in tuned))


@torch.no_grad()
def _hard_examples(
    head: MetricHead | LinearHead, features: Tensor, labels: Tensor, rule: MetricRule, count: int
) -> Tensor:
    """Return the rois of the objects and those of the background of highest loss, ``count`` in all."""
    losses = _episode_losses(head, features, labels, rule)
    return hardest(losses.masked_fill(labels > 0, float("inf")), count)


def _leaf(part: Tensor) -> Tensor:
    return part.clone().requires_grad_() if part.is_floating_point() else part


def _episode_losses(head: MetricHead | LinearHead, features: Tensor, labels: Tensor, rule: MetricRule) -> Tensor:
    if isinstance(head, LinearHead):
        return cross_entropy(linear(features, head.weight, head.bias), labels, reduction="none")
    apart = distances(head, features)
    logits = posterior_logits(mode_probabilities(apart, rule.sigma, head.used), rule.scale, rule.kind)
    margin = embedding_loss(apart, labels, rule.margin, head.used)
    return cross_entropy(logits, labels, reduction="none") + margin
