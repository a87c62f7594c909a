"""SoftmaxClassifier: a linear layer on the embedding; novel classes by the mean of their shots.

Shapes: B images, N classes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_fewshot.classification.mixtures import ClassMixtures
from lightning_fewshot.classification.module import ClassifierModule
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.settings import BackboneSettings, Optimization


class SoftmaxClassifier(ClassifierModule):
    """Train with the cross-entropy of a linear layer on features of the same width as RepMet's embedding.

    Args:
        backbone: "conv4", or any timm network.
        embedding: Layers on top of it; the linear classifier sees the output of its last layer.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values.
    """

    keeps_training_classes = False

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("inception_v3"),
        embedding: EmbeddingHead = EmbeddingHead(),
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
    ) -> None:
        super().__init__(backbone, embedding, optimization=optimization, init_from=init_from)

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make the linear layer of the training classes."""
        super().set_classes(classes)
        self.classify = nn.Linear(self.dim, len(classes)).to(self.device)

    def logits(self, images: Tensor | list[Tensor]) -> Tensor:
        """Return the logits of the training classes, ``(B, N)``."""
        features = self.encoder(images).float()
        return self.classify(self.head.last(self.head(features)))

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the cross-entropy of a batch of training images."""
        return {"cross_entropy": cross_entropy(self.logits(episode.query.images), self.training_labels(episode))}

    def training_classes(self) -> ClassMixtures | None:
        """Return None: the training classes are the linear layer."""
        return None

    def predict(self, state: ClassMixtures | None, query: Examples) -> Tensor:
        """Return the score of every class, ``(Q, N)``: by the linear layer, or by the means of the support."""
        return self.logits(query.images).softmax(dim=-1) if state is None else super().predict(state, query)
