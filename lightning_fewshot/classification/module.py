"""What image classifiers share: embed, compare with the classes' modes, and evaluate novel classes or a closed set.

Shapes: B images, Q query images, S support images, F features, e embedding, N classes, K modes of a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor

from lightning_fewshot.classification.export import StaticClassifier
from lightning_fewshot.classification.mixtures import ClassMixtures, joined, mixtures_of
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.accuracy import Accuracy
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.nn.embedding import EmbeddingModule, embed_features, squared_distances
from lightning_fewshot.nn.image_encoder import ImageEncoder
from lightning_fewshot.settings import BackboneSettings, Optimization

ScoreRule = Callable[..., Tensor]
SIGMA = 0.5  # width of a class in the embedding, RepMet's section 4.1; it orders nothing, but makes probabilities


class ClassifierModule(FewShotModule):
    """A classifier by distances in an embedding. Subclasses write ``loss``; most write no more than that.

    Novel classes are the modes of their support. In a closed set the classes are what training left: learned
    parameters, or by default the modes of the embedded training images, computed anew before an evaluation.

    Args:
        backbone: "conv4", or any timm network.
        embedding: Layers on top of it; None compares the features themselves, brought to unit length.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start training from, as far as names and shapes agree.

    Attributes:
        n_modes: K, modes of a class at most.
        unit: Whether embeddings have unit length.
        keeps_training_classes: Whether the modes of the training classes are computed from their images.
    """

    support_needs = "labels"
    one_output_a_class = True
    n_modes = 1
    keeps_training_classes: ClassVar[bool] = True
    unit: ClassVar[bool] = True
    centres: Tensor
    centres_used: Tensor

    def __init__(
        self,
        backbone: BackboneSettings,
        embedding: EmbeddingHead | None,
        optimization: Optimization,
        init_from: str | None,
    ) -> None:
        super().__init__(optimization, init_from)
        self.encoder = ImageEncoder(backbone)
        self.head = (
            None if embedding is None else EmbeddingModule(self.encoder.n_features, embedding.widths, embedding.dim)
        )
        self.dim = self.encoder.n_features if embedding is None else embedding.dim

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make room for the modes of the training classes."""
        super().set_classes(classes)
        if self.keeps_training_classes:
            self.register_buffer("centres", torch.zeros(len(classes), self.n_modes, self.dim, device=self.device))
            used = torch.zeros(len(classes), self.n_modes, dtype=torch.bool, device=self.device)
            self.register_buffer("centres_used", used)

    def embed(self, images: Tensor | list[Tensor]) -> Tensor:
        """Return the embedding of images, ``(B, e)``."""
        features = self.encoder(images)
        with self.full_precision():
            return embed_features(self.head, features.float(), self.unit)

    @torch.no_grad()
    def adapt(self, support: Examples) -> ClassMixtures:
        """Return the modes of the support's classes.

        Args:
            support: Images with labels in [0, N), each class at least once.

        Raises:
            ValueError: A class has no example.
        """
        return self.modes_of(self.embed(support.images), support.labels)

    def predict(self, state: ClassMixtures, query: Examples) -> Tensor:
        """Return the score of every class of the state, ``(Q, N)`` in [0, 1]."""
        return self.scores(state, self.embed(query.images))

    def modes_of(self, embedded: Tensor, labels: Tensor) -> ClassMixtures:
        """Return the modes of classes from embedded examples."""
        return mixtures_of(embedded, labels, self.n_modes, unit=self.unit)

    def scores(self, state: ClassMixtures, embedded: Tensor) -> Tensor:
        """Return the score of every class of the state for embedded images, ``(Q, N)``."""
        with self.full_precision():
            return self.score_rule()(embedded.float(), *state)

    def score_rule(self) -> ScoreRule:
        """Return how embedded images ``(Q, e)`` are scored by the fields of a state: a function of tensors alone."""
        return nearest_mode_scores

    def add_class(self, state: ClassMixtures, examples: Examples) -> ClassMixtures:
        """Return a state with one more class, last, of which all the examples are; the given one is not changed."""
        labels = torch.zeros(len(examples.images), dtype=torch.long, device=self.device)
        return joined(state, self.adapt(examples._replace(labels=labels)))

    def state_of(self, episode: Episode) -> ClassMixtures:
        """Adapt to the support; without one, return the training classes."""
        return self.training_classes() if episode.support is None else self.adapt(episode.support)

    def training_classes(self) -> ClassMixtures:
        """Return the modes of the training classes, for a closed set."""
        return ClassMixtures(self.centres, self.centres_used)

    def modes_of_training(self, embedded: Tensor, labels: Tensor) -> ClassMixtures:
        """Return the modes of training classes: those that were learned, else those of embedded training images."""
        learned = None if self.keeps_training_classes else self.training_classes()
        return self.modes_of(embedded, labels) if learned is None else learned

    @torch.no_grad()
    def index_classes(self, episodes: Iterable[Episode]) -> tuple[Tensor, Tensor]:
        """Compute the modes of the training classes from all their images; return these embedded, and their labels."""
        was_training = self.training
        self.eval()
        parts = [(self.embed(self._moved(e.query.images)), self._moved(e.query.labels)) for e in episodes]
        embedded, labels = (torch.cat(rows) for rows in zip(*parts, strict=True))
        state = self.modes_of(embedded, labels)
        modes = state.used.shape[1]  # a class with fewer images than K leaves slots unused
        self.centres.zero_()[:, :modes] = state.representatives
        self.centres_used.zero_()[:, :modes] = state.used
        self.train(was_training)
        return embedded, labels

    def build_metrics(self) -> Accuracy:
        """Return accuracy over episodes, or over the images of a closed set."""
        return Accuracy()

    def export_classifier(self, state: ClassMixtures) -> StaticClassifier:
        """Return the adapted classifier as an ordinary network: images in, scores out, nothing to adapt."""
        return StaticClassifier(self, state)

    def on_validation_epoch_start(self) -> None:
        """Compute the modes of the training classes, where these are evaluated."""
        self._index()

    def on_test_epoch_start(self) -> None:
        """Compute the modes of the training classes, where these are evaluated."""
        self._index()

    def training_labels(self, episode: Episode) -> Tensor:
        """Return the labels of a batch of training classes.

        Raises:
            ValueError: The training episode is a task with classes of its own.
        """
        if episode.support is not None:
            raise ValueError(f"{type(self).__name__} trains on batches: set data.training to datamodules.ClassBatch")
        return episode.query.labels

    def _index(self) -> None:
        data = self.trainer.datamodule
        if self.keeps_training_classes and getattr(data, "closed", False):
            self.index_classes(data.reference_episodes())

    def _moved(self, values: Tensor) -> Tensor:
        return values.to(self.device)


def nearest_mode_scores(
    embedded: Tensor, representatives: Tensor, used: Tensor, negatives: Tensor | None = None
) -> Tensor:
    """Return the probability of every class by its nearest mode, ``(Q, N)``, which sum to 1.

    Args:
        embedded: ``(Q, e)`` of unit length.
        representatives: ``(N, K, e)``.
        used: ``(N, K)`` bool.
        negatives: Not used by this rule.
    """
    distances = squared_distances(embedded, representatives).masked_fill(~used, float("inf"))
    return (-distances.amin(dim=-1) / (2 * SIGMA**2)).softmax(dim=-1)
