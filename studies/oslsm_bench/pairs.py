"""What OSLSM's last layers and its baselines see of pairs, computed once, for studies/oslsm_training.py.

Of a query photo it is the map before fc6. Of a support it is, for each way in which g can look at it, the features
before g's last layer; for the baselines the map before fc6 and the mask. Each is a file of its own in the cache.

Shapes: P pairs, K shots, U distinct supports (a photo and a class), C channels before fc6, F features before g's last
layer, (H, W) pixels, (h, w) locations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from oslsm_sets import BATCH, SIDE, TRAINED_ON, StudySet
from torch import Tensor

from lightning_fewshot.episodes import VOID, Episode, Examples
from lightning_fewshot.metrics.segmentation import image_number
from lightning_fewshot.models.oslsm import OSLSMSegmenter
from lightning_fewshot.models.oslsm.grid import resized
from lightning_fewshot.models.oslsm.masks import label_targets, stacked, support_objects
from lightning_fewshot.models.oslsm.pooling import pooling_weights
from lightning_fewshot.models.oslsm.settings import (
    ImageSides,
    PixelLoss,
    Prototypes,
    SegmentationBranchSettings,
    SupportEncoder,
)
from lightning_fewshot.settings import BackboneSettings

COARSE = 4  # training masks are compared at every fourth pixel
FRAME_STEP = 8  # of a video every eighth frame is asked
POOLED = SupportEncoder(
    pooling=Prototypes(0.5), prototype_init=True, size=193, crop=True, code_norm=True, learned_bias=True, lr_factor=1.0
)
VIEWS = {
    "pooled": POOLED,
    "masked": replace(POOLED, pooling=None),  # the paper's
    "scales": replace(POOLED, scales=(1.0, 1.5, 2.0)),
    "no negatives": replace(POOLED, pooling=Prototypes(0.0)),
}


class Pairs(NamedTuple):
    """P pairs as the last layers see them.

    Args:
        maps: ``(P, C, h, w)`` half, what fc6 sees of the query.
        seen: ``(P, F)`` half, what g's last layer sees of the support; of several shots ``(P, K, F)``.
        masks: ``(P, H, W)`` uint8: 1 object, 0 background, 255 void.
        classes: ``(P,)`` class of each.
        images: ``(P,)`` float64, a number of each query image.
    """

    maps: Tensor
    seen: Tensor
    masks: Tensor
    classes: Tensor
    images: Tensor


class Supports(NamedTuple):
    """U distinct supports for the baselines, and which of them each pair has.

    Args:
        maps: ``(U, C, h, w)`` half, what fc6 sees of the photo.
        weights: ``(U, 2, h, w)`` half: how much each location counts as object and as background.
        labels: ``(U, 2, h, w)`` bool: the object's locations, and those that are known.
        masks: ``(U, H, W)`` bool: the object's pixels.
        index: ``(P, K)``.
    """

    maps: Tensor
    weights: Tensor
    labels: Tensor
    masks: Tensor
    index: Tensor


def segmenter(view: str = "pooled", stride: int = 16) -> OSLSMSegmenter:
    """Return OSLSM as in experiments/oslsm/photos.yaml, with another g or finer feature maps where asked.

    The learned bias starts at 0 and stays there where no recipe trains it.
    """
    return OSLSMSegmenter(
        backbone=BackboneSettings("efficientnet_lite0", "package", frozen_stages=5, frozen_batchnorm=True),
        branch=SegmentationBranchSettings(output_stride=stride, dropout=0.1, feature_norm=True),
        sides=ImageSides(query_size=SIDE, align_corners=True),
        encoder=VIEWS[view],
        loss=PixelLoss(dice=1.0),
        shot_aggregation="mean",
    )


def thinned(episode: Episode) -> Episode:
    """Keep every eighth frame of a video, but its last, which J leaves out."""
    if episode.protocol != "video":
        return episode
    query, kept = episode.query, range(0, len(episode.query.images) - 1, FRAME_STEP)
    images, masks, names = ([part[i] for i in kept] for part in (query.images, query.class_masks, query.names))
    return episode._replace(query=Examples(images, query.labels[list(kept)], class_masks=masks, names=tuple(names)))


def first_shots(episode: Episode) -> list[int]:
    """Return the place in the support of the first shot of each query image."""
    index = episode.support.query_index
    return [0] * len(episode.query.images) if index is None else [index.tolist().index(i) for i in range(len(index))]


@torch.no_grad()
def cached(module: OSLSMSegmenter, episode: Episode, coarse: bool) -> Pairs:
    """Compute what the last layers see of an episode; of several shots, of the first one."""
    images, masks = stacked(episode.query)
    targets = label_targets(masks, episode.query.labels)
    support = episode.support
    seen = seen_by(module, support.images, torch.stack(support_objects(support))).half()[first_shots(episode)]
    numbers = torch.tensor([image_number(episode, i) for i in range(len(images))], dtype=torch.float64)
    return Pairs(
        module.segmentation.maps(resized(images, module.sides, module.stride)).half(),
        seen,
        targets[:, ::COARSE, ::COARSE].clone() if coarse else targets,
        class_numbers(episode),
        numbers,
    )


def class_numbers(episode: Episode) -> Tensor:
    """Return the class of each query image; in a video the number of the sequence."""
    return torch.tensor([episode.class_ids[i] for i in episode.query.labels.tolist()])


def seen_by(module: OSLSMSegmenter, images: Tensor, objects: Tensor) -> Tensor:
    """Return what g's last layer sees of supports, ``(S, F)``."""
    return module.conditioning.network.pooled(images, objects)


@torch.no_grad()
def one_support(module: OSLSMSegmenter, support: Examples, place: int) -> tuple[Tensor, ...]:
    """Compute what the baselines know of one support, as Supports has it."""
    image, mask = support.images[place], support.class_masks[place]
    objects = mask == support.labels[place] + 1
    maps = module.segmentation.maps(resized(image[None], module.sides, module.stride))
    parts = torch.stack([objects, ~objects & (mask != VOID)])[None].float()
    weights = pooling_weights(parts, maps.shape[-2:], module.sides.align_corners)
    labels = torch.stack(module.location_labels(objects, mask, maps[0]))
    return maps[0].half(), weights[0].half(), labels, objects


@torch.no_grad()
def one_seen(module: OSLSMSegmenter, support: Examples, place: int) -> tuple[Tensor, ...]:
    """Compute what g's last layer sees of one support."""
    objects = support.class_masks[place] == support.labels[place] + 1
    return (seen_by(module, support.images[place][None], objects[None])[0].half(),)


def distinct(episodes: Iterator[Episode], compute: Callable[[Examples, int], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Compute something of every support of the episodes, once for a photo and a class.

    Args:
        episodes: In evaluation every query image of one has all its shots; in training each has its own.
        compute: Gets a support and the place of a shot in it.

    Returns:
        What was computed, stacked, each ``(U, ...)``; and the index ``(P, K)``.
    """
    rows: dict[tuple, int] = {}
    parts: list[tuple[Tensor, ...]] = []
    index: list[list[int]] = []
    for number, episode in enumerate(episodes):
        support, places = episode.support, []
        for i, name in enumerate(support.names):
            augmented = support.query_index is not None
            key = (number, i) if augmented else (name, episode.class_ids[int(support.labels[i])])
            if key not in rows:
                rows[key] = len(parts)
                parts.append(compute(support, i))
            places.append(rows[key])
        index += [[place] for place in places] if augmented else [places] * len(episode.query.images)
    return (*map(torch.stack, zip(*parts, strict=True)), torch.tensor(index))


class Cache:
    """Files of a set, computed where they are not there; of one that has more pairs than are asked for, the first.

    Args:
        folder: Where they lie.
        name: Of the set.
        known: Its episodes.
        batches: Training batches that are cached.
        shots: Support photos of a validation or test episode.
        stride: Of the feature maps.
    """

    def __init__(
        self, folder: Path, name: str, known: StudySet, *, batches: int, shots: int = 1, stride: int = 16
    ) -> None:
        self.folder = folder
        self.name = name
        self.known = known
        self.batches = batches
        self.shots = shots
        self.stride = stride
        folder.mkdir(parents=True, exist_ok=True)

    def pairs(self, split: str, module: OSLSMSegmenter) -> Pairs:
        """Return the pairs of a split, with the first shot as ``module`` sees it."""

        def compute() -> tuple[Tensor, ...]:
            parts = [cached(module, episode, split == "train") for episode in self._episodes(split)]
            return tuple(torch.cat(part) for part in zip(*parts, strict=True))

        return Pairs(*(self._first(split, part) for part in self._kept(split, "", compute)))

    def seen(self, split: str, view: str) -> Tensor:
        """Return what g's last layer sees of all shots in a view, ``(P, K, F)``."""
        module = segmenter(view, self.stride).eval()

        def compute() -> tuple[Tensor, ...]:
            return distinct(self._episodes(split), lambda *shot: one_seen(module, *shot))

        features, index = self._kept(split, f"-{view.replace(' ', '-')}", compute)
        return features[self._first(split, index)]

    def supports(self, split: str, module: OSLSMSegmenter) -> Supports:
        """Return the supports of a split for the baselines."""

        def compute() -> tuple[Tensor, ...]:
            return distinct(self._episodes(split), lambda *shot: one_support(module, *shot))

        *parts, index = self._kept(split, "-supports", compute)
        return Supports(*parts, self._first(split, index))

    def _episodes(self, split: str) -> Iterator[Episode]:
        data = self.known.of(split)
        count = self.batches if split == "train" else data.counts[split]
        return (thinned(data.episode(split, i)) for i in range(count))

    def _first(self, split: str, rows: Tensor) -> Tensor:
        """Return as many rows as are asked for, one a pair; of videos all.

        Raises:
            ValueError: There are fewer.
        """
        data = self.known.of(split)
        wanted = self.batches * BATCH if split == "train" else data.counts[split]
        if len(rows) < wanted:
            raise ValueError(f"a file of {split} in {self.folder} has {len(rows)} pairs of {wanted}: remove it")
        return rows if data.protocol(split)["n_query"] is None else rows[:wanted]

    def _kept(self, split: str, kind: str, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        name = (self.name if split == "test" else TRAINED_ON.get(self.name, self.name)).removeprefix("pascal")
        sizes = f"-{self.batches}" if split == "train" else f"-{self.shots}shots" if self.shots > 1 else ""
        stride = f"-stride{self.stride}" if self.stride != 16 else ""
        path = self.folder / f"{split}{name}{sizes}{stride}{kind}.pt"
        if not path.is_file():
            torch.save(compute(), path)
        return torch.load(path, weights_only=True)


def part_of(pairs: Pairs, index: Tensor | slice) -> Pairs:
    """Return some of the pairs."""
    return Pairs(*(values[index] for values in pairs))
