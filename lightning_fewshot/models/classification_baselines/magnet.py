"""MagnetClassifier: the Magnet loss (Rippel et al., ICLR 2016), with k-means steps between stretches of training.

Shapes: B images, N classes, K clusters of a class, e embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_fewshot.classification.module import ClassifierModule
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Episode
from lightning_fewshot.nn.embedding import squared_distances
from lightning_fewshot.settings import BackboneSettings, Optimization

TINY = 1e-12


class MagnetClassifier(ClassifierModule):
    """Pull images to their nearest cluster of their class, away from all clusters of others.

    The clusters are those of k-means over all embedded training images, computed anew every ``refresh`` steps; between
    two such steps they stay, and all clusters of other classes count (eq. (4) there, without its sampling of clusters).

    Args:
        backbone: "conv4", or any timm network.
        embedding: Layers on top of it.
        n_modes: K, clusters of a class.
        margin: alpha of the paper.
        refresh: Training steps between two k-means steps.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values.
    """

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("inception_v3"),
        embedding: EmbeddingHead = EmbeddingHead(),
        n_modes: int = 3,
        margin: float = 1.0,
        refresh: int = 100,
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
    ) -> None:
        super().__init__(backbone, embedding, optimization=optimization, init_from=init_from)
        for name, value in {"n_modes": n_modes, "refresh": refresh}.items():
            if value < 1:
                raise ValueError(f"{name} is {value} but must be at least 1")
        self.n_modes = n_modes
        self.margin = margin
        self.refresh = refresh

    def on_train_batch_start(self, batch: Episode, batch_idx: int) -> None:
        """Take the k-means step where it is due."""
        super().on_train_batch_start(batch, batch_idx)
        if self.global_step % self.refresh == 0:
            self.index_classes(self.trainer.datamodule.reference_episodes())

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the Magnet loss of a batch of training images."""
        labels = self.training_labels(episode)
        embedded = self.embed(episode.query.images)
        with self.full_precision():
            distances = squared_distances(embedded, self.centres.clone()).masked_fill(~self.centres_used, float("inf"))
            return {"magnet": magnet_loss(distances, labels, self.margin).mean()}


def magnet_loss(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return the loss of each image, ``(B,)``, eq. (4) of Rippel et al.

    Args:
        distances: Squared distances to the clusters, ``(B, N, K)``; infinite where there is none.
        labels: ``(B,)``.
        margin: alpha.
    """
    exists = distances.isfinite()
    right = distances[torch.arange(len(labels), device=labels.device), labels].amin(dim=-1)  # of the image's class
    variance = right.mean().clamp(min=TINY)
    finite = distances.masked_fill(~exists, 0)  # an infinite one would make the gradient of the variance nan
    of_class = (labels[:, None] == torch.arange(distances.shape[1], device=labels.device))[..., None]
    others = (-finite / (2 * variance)).masked_fill(of_class | ~exists, float("-inf")).flatten(1).logsumexp(dim=1)
    return (right / (2 * variance) + margin + others).clamp(min=0)
