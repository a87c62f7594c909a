"""SiameseSegmenter: dense matching with a learned similarity, the baseline "Siamese" of section 6.

The network is trained for verification of locations (Koch et al., 2015): are both the object's, or both not? A query
image is then labelled by its nearest locations in the support.

Shapes: P and M locations, D features, (H, W) pixels, (h, w) feature-map locations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.oslsm.loss import verification_loss
from lightning_fewshot.models.oslsm.masks import label_targets, pair_index, stacked, support_objects
from lightning_fewshot.models.oslsm.nearest import Neighbours, distances, labelled_locations, neighbour_logits
from lightning_fewshot.models.oslsm.pixel_segmenter import PixelSegmenter

VERIFIED = 128  # locations of each image of a pair that are compared in training


class SiameseSegmenter(PixelSegmenter):
    """Label each location by the most similar one of the support.

    Args:
        options: See PixelSegmenter.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.similarity = nn.Parameter(torch.zeros(self.segmentation.n_features + 1))

    @torch.no_grad()
    def adapt(self, support: Examples) -> Neighbours:
        """Keep the labelled locations of all shots."""
        objects = support_objects(support)
        maps = self.features(support.images)
        labelled = [self.location_labels(*row) for row in zip(objects, support.class_masks, maps, strict=True)]
        return labelled_locations(maps, labelled, support.labels.to(self.device))

    def location_logits(self, state: Neighbours, features: Tensor) -> Tensor:
        """Return how much more similar the object is than the background, ``(N, h, w)``."""
        return neighbour_logits(state, features, similarity_scale(self.similarity))

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Compare random locations of each query image and of the first of its shots."""
        images, masks = stacked(episode.query)
        features = self.batch_features(images).float()
        support, objects = self._first_shots(episode)
        shots = self.batch_features(stacked(support)[0]).float()
        targets = label_targets(masks, episode.query.labels)
        losses = []
        for i in range(len(features)):
            query = some_locations(features[i], *self.location_labels(targets[i] == 1, targets[i], features[i]))
            known = self.location_labels(objects[i], support.class_masks[i], shots[i])
            losses.append(self._verification(query, some_locations(shots[i], *known)))
        return {"verification": torch.stack(losses).mean()}

    def _verification(self, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
        with self.full_precision():
            logits = similarity(a[0], b[0], self.similarity)
        return verification_loss(logits, a[1][:, None] == b[1][None])

    def _first_shots(self, episode: Episode) -> tuple[Examples, list[Tensor]]:
        """Return one shot of each query image, and its object's pixels."""
        index = pair_index(episode.support).tolist()
        first = [index.index(i) for i in range(len(episode.query.images))]
        objects = support_objects(episode.support, episode.classes)
        images, masks = ([part[i] for i in first] for part in (episode.support.images, episode.support.class_masks))
        return Examples(images, class_masks=masks), [objects[i] for i in first]


def similarity(query: Tensor, support: Tensor, parameters: Tensor) -> Tensor:
    """Return the learned similarity of all pairs of locations, a logit: offset minus a weighted l1 distance.

    Args:
        query: ``(P, D)``.
        support: ``(M, D)``.
        parameters: ``(D + 1,)``; the weights are softplus of the first D, over sqrt(D); the last is the offset.

    Returns:
        ``(P, M)``.
    """
    return parameters[-1] - distances(query, support, similarity_scale(parameters))


def similarity_scale(parameters: Tensor) -> Tensor:
    """Return the weights of the l1 distance, ``(D,)``, positive."""
    return softplus(parameters[:-1]) / (len(parameters) - 1) ** 0.5


def some_locations(features: Tensor, objects: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Draw known locations of a map, half of them the object's where there are so many: ``(P, D)``, ``(P,)`` bool."""
    places = []
    for kind in (objects & known, ~objects & known):
        rows = kind.flatten().nonzero()[:, 0]
        places.append(rows[torch.randperm(len(rows), device=rows.device)[: VERIFIED // 2]])
    chosen = torch.cat(places)
    return features.flatten(1).T[chosen], objects.flatten()[chosen]
