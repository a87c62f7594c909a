"""MagnetClassifier: the Magnet loss (Rippel et al., ICLR 2016), with k-means steps between stretches of training.

Shapes: B images, N classes, K clusters of a class, C = N * K clusters, e embedding.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_fewshot.classification.module import ClassifierModule
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Episode
from lightning_fewshot.nn.embedding import squared_distances
from lightning_fewshot.sampling import Clusters
from lightning_fewshot.settings import BackboneSettings, Optimization

TINY = 1e-12


class MagnetClassifier(ClassifierModule):
    """Pull images to their cluster of their class, away from the batch's clusters of other classes.

    Which images are a cluster is what k-means over all embedded training images says, anew every ``refresh`` steps.
    With ``datamodules.ClusterBatch`` a batch is a cluster and its nearest ones of other classes, as in the paper
    (section 3.2 there); the clusters' means and the variance are the batch's own.

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
        """Take the k-means step where it is due; the data draw the next batches from its clusters."""
        super().on_train_batch_start(batch, batch_idx)
        if self.global_step % self.refresh == 0:
            data = self.trainer.datamodule
            data.clusters = self.find_clusters(data.reference_episodes())

    @torch.no_grad()
    def find_clusters(self, episodes: Iterable[Episode]) -> Clusters:
        """Take the k-means step; return the clusters of all images of the episodes, in their order."""
        embedded, labels = self.index_classes(episodes)
        centres, exists = self.centres.flatten(0, 1), self.centres_used.flatten()
        class_of = torch.arange(len(exists), device=labels.device) // self.n_modes
        owner = self.clusters_of(embedded, labels)
        apart = torch.cdist(embedded, centres).square().masked_fill(~exists, float("inf"))
        right = apart.gather(1, owner[:, None])[:, 0]
        losses = magnet_loss(apart, right, class_of[None] == labels[:, None], self.margin)
        weights = torch.zeros(len(exists), device=labels.device).index_add(0, owner, losses)
        between = torch.cdist(centres, centres).masked_fill(~(exists & exists[:, None]), float("inf"))
        between = between.masked_fill(class_of == class_of[:, None], float("inf"))
        return Clusters(*(values.cpu().numpy() for values in (owner, weights, between)))

    def clusters_of(self, embedded: Tensor, labels: Tensor) -> Tensor:
        """Return the cluster of each image, ``(B,)`` in [0, C): the nearest one of its class."""
        distances = squared_distances(embedded, self.centres).masked_fill(~self.centres_used, float("inf"))
        rows = torch.arange(len(labels), device=labels.device)
        return labels * self.n_modes + distances[rows, labels].argmin(dim=-1)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the Magnet loss of a batch of training images."""
        labels = self.training_labels(episode)
        embedded = self.embed(episode.query.images)
        with self.full_precision():
            cluster = self.clusters_of(embedded.detach(), labels)
            same = (cluster[:, None] == cluster).to(embedded.dtype)  # (B, B)
            sizes = same.sum(dim=1)
            means = same @ embedded / sizes[:, None]  # of each image's cluster
            distances = (embedded[:, None] - means).square().sum(dim=-1)
            of_class = labels[:, None] == labels
            return {"magnet": magnet_loss(distances, distances.diagonal(), of_class, self.margin, sizes).mean()}


def magnet_loss(
    distances: Tensor, right: Tensor, of_class: Tensor, margin: float, copies: Tensor | None = None
) -> Tensor:
    """Return the loss of each image, ``(B,)``, eq. (4) of Rippel et al.

    Args:
        distances: Squared distances to the clusters' means, ``(B, G)`` of G clusters; infinite where there is none.
        right: ``(B,)``, those to the mean of an image's own cluster.
        of_class: ``(B, G)`` bool, clusters of an image's own class: they do not repel it.
        margin: alpha.
        copies: ``(G,)``, how many of the columns are this same cluster; None: each is one of its own.
    """
    variance = (right.sum() / max(len(right) - 1, 1)).clamp(min=TINY)
    attraction = -distances / (2 * variance)
    attraction = attraction if copies is None else attraction - copies.log()
    others = attraction.masked_fill(of_class, float("-inf")).logsumexp(dim=1)
    return (right / (2 * variance) + margin + others).clamp(min=0)
