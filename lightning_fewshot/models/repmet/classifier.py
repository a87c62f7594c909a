"""RepMetClassifier: classification by distances to representatives that are learned with the embedding.

RepMet (Karlinsky et al., CVPR 2019), sections 3, 4.1 and 5.1. It shares its head with the detector; the baselines of
table 1 are in ``lightning_fewshot.models.classification_baselines``.

Shapes: B images, Q query images, N classes, K modes of a class, e embedding, M counter-examples.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from lightning_fewshot.classification.mixtures import ClassMixtures
from lightning_fewshot.classification.module import ClassifierModule, ScoreRule
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.accuracy import Accuracy
from lightning_fewshot.models.repmet.classifier_settings import ClassMixture
from lightning_fewshot.models.repmet.head import (
    Representatives,
    background_posterior,
    class_posterior,
    mode_probabilities,
    soft_class_posterior,
)
from lightning_fewshot.models.repmet.loss import embedding_loss
from lightning_fewshot.nn.embedding import squared_distances
from lightning_fewshot.settings import BackboneSettings, Optimization

SMALLEST = 1e-12


class RepMetClassifier(ClassifierModule):
    """Classify by mixtures: the modes of the training classes are learned, those of new ones are their examples.

    The scores of an image are eq. (5) times one minus eq. (3): they sum to one with the probability that it shows
    none of the classes.

    Args:
        backbone: "conv4", or any timm network (section 4.1: InceptionV3).
        embedding: Layers between pooled features and the embedding.
        mixture: The distribution of a class, and the losses.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values.
    """

    keeps_training_classes = False

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("inception_v3"),
        embedding: EmbeddingHead = EmbeddingHead(),
        mixture: ClassMixture = ClassMixture(),
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
    ) -> None:
        super().__init__(backbone, embedding, optimization=optimization, init_from=init_from)
        self.mixture = mixture
        self.n_modes = mixture.n_modes

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make the representatives of the training classes."""
        super().set_classes(classes)
        self.representatives = Representatives(len(classes), self.n_modes, self.dim).to(self.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return all trained parameters, the representatives with a learning rate of their own."""
        learned = self.representatives.weight
        rest = [p for p in self.parameters() if p.requires_grad and p is not learned]
        factor = self.mixture.representatives_lr
        return [{"params": rest}, {"params": [learned], "lr_factor": factor, "weight_decay": 0.0}]

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the cross-entropy of eq. (5) and the margin loss of eq. (4) of a batch of training images."""
        labels = self.training_labels(episode)
        embedded = self.embed(episode.query.images)
        with self.full_precision():
            distances = squared_distances(embedded, self.representatives())
            posterior = soft_class_posterior(mode_probabilities(distances, self.mixture.sigma))
            terms = {"cross_entropy": nll_loss(posterior.clamp(min=SMALLEST).log(), labels)}
            if self.mixture.margin_weight:
                margin = embedding_loss(distances, labels + 1, self.mixture.margin)  # label 0 would be background
                terms["embedding"] = self.mixture.margin_weight * margin.mean()
        return terms

    def training_classes(self) -> ClassMixtures:
        """Return the representatives that were learned."""
        representatives = self.representatives().detach()
        return ClassMixtures(
            representatives, torch.ones(representatives.shape[:2], dtype=torch.bool, device=self.device)
        )

    @torch.no_grad()
    def with_negatives(self, state: ClassMixtures, examples: Examples) -> ClassMixtures:
        """Return a state with counter-examples: images that look like classes of it but belong to none."""
        embedded = self.embed(examples.images)
        rows = embedded if state.negatives is None else torch.cat([state.negatives, embedded])
        return state._replace(negatives=rows)

    def score_rule(self) -> ScoreRule:
        """Return eq. (5) times one minus eq. (3)."""
        return partial(mixture_scores, sigma=self.mixture.sigma)

    def build_metrics(self) -> Accuracy:
        """Return accuracy, and how well what the scores leave over tells images of no class."""
        return Accuracy(rejection=none_of_these)


def mixture_scores(
    embedded: Tensor, representatives: Tensor, used: Tensor, negatives: Tensor | None = None, sigma: float = 0.5
) -> Tensor:
    """Return the score of every class, ``(Q, N)``, eq. (5) times one minus eq. (3).

    The modes of a class are equally weighted, whatever their number. Counter-examples are modes of one more class,
    whose share is left out of the scores.

    Args:
        embedded: ``(Q, e)`` of unit length.
        representatives: ``(N, K, e)`` of unit length.
        used: ``(N, K)`` bool.
        negatives: ``(M, e)`` of unit length.
        sigma: Standard deviation of a mode.
    """
    probs = mode_probabilities(squared_distances(embedded, representatives), sigma, used)  # eq. (1)
    known = 1 - background_posterior(class_posterior(probs))  # eqs. (2) and (3)
    weighted = probs / used.sum(dim=-1, keepdim=True).clamp(min=1)
    if negatives is None:
        return soft_class_posterior(weighted) * known[:, None]  # eq. (5)
    against = mode_probabilities(squared_distances(embedded, negatives[:, None]), sigma).mean(dim=1)  # (Q, 1)
    classes = torch.cat([weighted.sum(dim=-1), against], dim=1)
    return soft_class_posterior(classes[..., None])[:, :-1] * known[:, None]


def none_of_these(scores: Tensor) -> Tensor:
    """Return the probability that an image shows none of the classes, ``(Q,)``; without counter-examples eq. (3)."""
    return 1 - scores.sum(dim=-1)
