"""What segments without looking at an image: rows that show what a test set gives away by itself.

Where support and query look alike, as two frames of one drive, copying the support's mask can beat a trained method.

Shapes: S shots, (H, W) pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lightning_fewshot.episodes import Episode, Examples, Segmentation
from lightning_fewshot.metrics.segmentation import SegmentationMetrics
from lightning_fewshot.models.oslsm.classifiers import label_map
from lightning_fewshot.models.oslsm.masks import support_objects
from lightning_fewshot.module import FewShotModule


class SupportMasks(NamedTuple):
    """The masks of a support.

    Args:
        objects: ``(H, W)`` bool of each shot.
        classes: ``(S,)`` int64, class of each.
    """

    objects: list[Tensor]
    classes: Tensor


class TrivialSegmenter(FewShotModule):
    """Give masks that do not depend on any image; there is nothing to train."""

    monitor = "val/miou"
    support_needs = "class_masks"
    needs_training = False

    def __init__(self) -> None:
        super().__init__()

    def adapt(self, support: Examples) -> SupportMasks:
        """Keep the masks of the shots."""
        return SupportMasks(support_objects(support), support.labels)

    @abstractmethod
    def share(self, shots: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return the probability of one class at every pixel, ``(H, W)``, of the masks of its shots."""

    def predict(self, state: SupportMasks, query: Examples) -> list[Segmentation]:
        """Return the masks of every query image: of the class ``labels[i]``, or of all where there are no labels."""
        known = state.classes.unique().tolist()
        labels = [known] * len(query.images) if query.labels is None else query.labels[:, None].tolist()
        return [
            self._segment(state, asked, image.shape[-2:]) for asked, image in zip(labels, query.images, strict=True)
        ]

    def _segment(self, state: SupportMasks, asked: Sequence[int], size: Sequence[int]) -> Segmentation:
        shots = [
            [m for m, shown in zip(state.objects, state.classes.tolist(), strict=True) if shown == label]
            for label in asked
        ]
        probs = torch.stack([self.share(masks, size) for masks in shots])
        masks = probs >= 0.5
        return Segmentation(masks, label_map(probs, masks, asked), probs=probs)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return no terms: nothing is minimised."""
        return {}

    def build_metrics(self) -> SegmentationMetrics:
        """Return mean IoU and FB-IoU."""
        return SegmentationMetrics()


class AllForegroundSegmenter(TrivialSegmenter):
    """Call every pixel the object's."""

    def share(self, shots: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return ones."""
        return torch.ones(*size, device=shots[0].device)


class CopyMaskSegmenter(TrivialSegmenter):
    """Copy the support's mask, scaled to the query image; of several shots, what half of them or more agree on."""

    def share(self, shots: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return the share of the shots whose mask has a pixel."""
        scaled = [interpolate(m[None, None].float(), tuple(size), mode="nearest-exact")[0, 0] for m in shots]
        return torch.stack(scaled).mean(0)
