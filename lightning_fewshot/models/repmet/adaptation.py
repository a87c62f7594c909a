"""From support rois to the head of an episode, and what that head says of new rois.

RepMet, section 5.2: the representatives become the embeddings of the support objects' rois; fine-tuning changes the
last embedding layer and the representatives only. The baselines of table 3 are the same steps with another feature
(baseline-DML, baseline-DML-external) or with a linear layer (baseline-FT).

Shapes: R rois, F features, e embedding, N classes, K modes of a class.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize
from torchvision.ops import box_iou

from lightning_fewshot.models.repmet.head import (
    class_posterior,
    mode_probabilities,
    posterior_logits,
    remaining_posterior,
)
from lightning_fewshot.models.repmet.loss import embedding_loss
from lightning_fewshot.models.repmet.settings import FineTuning, Mixture
from lightning_fewshot.nn.embedding import embed, squared_distances
from lightning_fewshot.nn.rois import hardest

SUPPORT_IOU = 0.7  # section 5.2
REFRESH = 10  # fine-tuning steps between two choices of hard examples
IMPRINT_SCALE = 10.0  # logit of a feature at the mean of its class
N_HARD = 512  # rois of a fine-tuning step


class Distances(NamedTuple):
    """Squared distances of rois.

    Args:
        modes: To the representatives of the classes, ``(R, N, K)``.
        negatives: To those of the background, ``(R, 1, M)``, where there are some.
    """

    modes: Tensor
    negatives: Tensor | None = None


class MetricHead(NamedTuple):
    """Head that compares embeddings with representatives: that of an episode, and that of the training classes.

    Args:
        weight: ``(e, F)`` last embedding layer.
        bias: ``(e,)``.
        representatives: ``(N, K, e)``, brought to unit length where they are used.
        used: ``(N, K)`` bool; classes with fewer embeddings than K leave slots unused. None: all are used.
        mixture: Constants of eqs. (1) and (4).
        negatives: ``(M, e)`` representatives of the background, see ``Mixture.negatives``; None: eq. (3) alone.
    """

    weight: Tensor
    bias: Tensor
    representatives: Tensor
    used: Tensor | None
    mixture: Mixture
    negatives: Tensor | None = None

    def merged(self, other: MetricHead, places: Tensor) -> MetricHead:
        """Return the head with the representatives of both.

        Args:
            other: Of the same embedding.
            places: ``(N',)``, the class here of each class of ``other``.

        Raises:
            ValueError: The embeddings differ: one of both was fine-tuned, or they are of different checkpoints.
        """
        if not torch.equal(self.weight, other.weight) or not torch.equal(self.bias, other.bias):
            raise ValueError("the states have different embeddings (fine-tuned, or of other checkpoints): adapt anew")
        (n, k), k_other = self.representatives.shape[:2], other.representatives.shape[1]
        count = max(n, int(places.max()) + 1)
        slots = self.representatives.new_zeros(count, k + k_other, self.representatives.shape[2])
        used = torch.zeros(slots.shape[:2], dtype=torch.bool, device=slots.device)
        slots[:n, :k], used[:n, :k] = self.representatives, True if self.used is None else self.used
        slots[places, k:], used[places, k:] = other.representatives, True if other.used is None else other.used
        return self._replace(representatives=slots, used=used)

    def distances(self, features: Tensor) -> Distances:
        """Return squared distances of ``(R, F)`` features to the representatives."""
        embedded = embed(features, self.weight, self.bias)
        modes = squared_distances(embedded, normalize(self.representatives, dim=-1))
        if self.negatives is None:
            return Distances(modes)
        return Distances(modes, squared_distances(embedded, normalize(self.negatives, dim=-1)[None]))

    def scores(self, features: Tensor) -> Tensor:
        """Return the score of every class, ``(R, N)`` in [0, 1]: eq. (2), or the softmax that the mixture asks for."""
        distances = self.distances(features)
        if self.mixture.ranking == "softmax":
            return self.logits(distances).softmax(dim=1)[:, 1:]
        posterior = class_posterior(mode_probabilities(distances.modes, self.mixture.sigma, self.used))
        return remaining_posterior(posterior, self._negative(distances))

    def logits(self, distances: Distances) -> Tensor:
        """Return logits of (background, class 1..N), ``(R, 1 + N)``."""
        probs = mode_probabilities(distances.modes, self.mixture.sigma, self.used)
        return posterior_logits(probs, self.mixture.logit_scale, self.mixture.logits, self._negative(distances))

    def margin_loss(self, distances: Distances, labels: Tensor) -> Tensor:
        """Return the loss of eq. (4) of each roi, ``(R,)``, from distances and labels (0 background)."""
        options = {"squared": self.mixture.margin_unit == "squared", "background": self.mixture.background_margin}
        return embedding_loss(distances.modes, labels, self.mixture.margin, self.used, **options)

    def losses(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return cross-entropy plus eq. (4) of each roi, ``(R,)``."""
        distances = self.distances(features)
        classification = cross_entropy(self.logits(distances), labels, reduction="none")
        return classification + self.margin_loss(distances, labels)

    def _negative(self, distances: Distances) -> Tensor | None:
        """Return the posterior of the background's own representatives, ``(R,)``, where there are some."""
        if distances.negatives is None:
            return None
        return class_posterior(mode_probabilities(distances.negatives, self.mixture.sigma))[:, 0]


class LinearHead(NamedTuple):
    """Softmax classifier: ``(1 + N, F)`` weight and ``(1 + N,)`` bias, background first."""

    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Return the probability of every class, ``(R, N)`` in [0, 1]."""
        return linear(features, self.weight, self.bias).softmax(dim=1)[:, 1:]

    def losses(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of each roi, ``(R,)``."""
        return cross_entropy(linear(features, self.weight, self.bias), labels, reduction="none")


def imprinted(features: Tensor, labels: Tensor, n_classes: int) -> LinearHead:
    """Return the linear head that compares features with the mean of each class and of the background, by cosine.

    The mean of all rois is taken off first; a feature at a class's mean direction, of usual length, has logit 10.

    Args:
        features: ``(R, F)``.
        labels: ``(R,)`` in [0, N], 0 is background; a label without roi has weight 0.
        n_classes: N.
    """
    centre = features.mean(0)
    rest = features - centre
    one_hot = torch.nn.functional.one_hot(labels, 1 + n_classes).to(rest)
    directions = normalize(one_hot.T @ rest, dim=-1)
    weight = IMPRINT_SCALE * directions / rest.norm(dim=-1).mean().clamp(min=1e-6)
    return LinearHead(weight, -(weight @ centre))


Head = TypeVar("Head", MetricHead, LinearHead)


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


def finetune(head: Head, features: Tensor, labels: Tensor, settings: FineTuning) -> Head:
    """Fine-tune a head on the rois of the support images (table 3, right half); the rest of the network stays.

    Every step takes the objects' rois and the background of highest loss, 512 in all, chosen anew every ten steps.

    Args:
        head: What to start from; it is not changed.
        features: ``(R, F)`` of all proposals of the support images, not only of the objects.
        labels: ``(R,)``, 0 is background.
        settings: Steps and learning rate of Adam.

    Returns:
        A head of the same kind.
    """
    with torch.enable_grad():
        tuned = type(head)(*(_leaf(part) for part in head))
        trained = [part for part in tuned if isinstance(part, Tensor) and part.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=settings.lr)
        for step in range(settings.steps):
            if step % REFRESH == 0:
                kept = _hard_examples(tuned, features, labels)
            optimizer.zero_grad()
            tuned.losses(features[kept], labels[kept]).mean().backward()
            optimizer.step()
    return type(head)(*(part.detach() if isinstance(part, Tensor) else part for part in tuned))


@torch.no_grad()
def _hard_examples(head: MetricHead | LinearHead, features: Tensor, labels: Tensor) -> Tensor:
    """Return the rois of the objects and those of the background of highest loss."""
    return hardest(head.losses(features, labels).masked_fill(labels > 0, float("inf")), N_HARD)


def _leaf(part: object) -> object:
    if isinstance(part, Tensor) and part.is_floating_point():
        return part.detach().clone().requires_grad_()
    return part
