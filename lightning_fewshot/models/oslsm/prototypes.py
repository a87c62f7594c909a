"""PrototypeSegmenter: the mean feature of the object, compared with every location. Nothing is learned by gradients.

The row without which a table of trained methods says little: what ImageNet features find by themselves.

Shapes: S shots, D features, (H, W) pixels, (h, w) feature-map locations.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from lightning_fewshot.episodes import VOID, Episode, Examples
from lightning_fewshot.models.oslsm.classifiers import PixelClassifiers
from lightning_fewshot.models.oslsm.masks import stacked, support_objects
from lightning_fewshot.models.oslsm.pixel_segmenter import VGG16, PixelSegmenter
from lightning_fewshot.models.oslsm.pooling import pooling_weights, prototypes
from lightning_fewshot.models.oslsm.settings import ImageSides, Prototypes, SegmentationBranchSettings
from lightning_fewshot.settings import BackboneSettings

NOTHING_TRAINED = (
    ".*configure_optimizers` returned `None`",
    "`parameters` is an empty",
)
NORMALISED = SegmentationBranchSettings(feature_norm=True)


class PrototypeSegmenter(PixelSegmenter):
    """Score each location by its inner product with the prototype of each shot, over ``sqrt(D)``. Needs no training.

    With ``feature_norm`` features have mean 0 and variance 1 over locations, so that 0 is "as like as any"; the sign of
    a score is that of the cosine. ``fit`` takes the mean and variance of each channel from the training images, in one
    pass without gradients; without ``fit`` they are those of each image itself.

    Args:
        backbone: Any timm model with feature maps.
        branch: What the segmentation branch has on top of it; ``fc: null`` compares ImageNet's own features.
        sides: How large images enter it, those of the support too.
        prototypes: What is taken off the mean over an object.
        threshold: A pixel is the object's above this probability, in (0, 1); None: chosen on validation episodes.
        init_from: Checkpoint of another run whose features are compared, as far as names and shapes agree.

    Attributes:
        needs_training: Only where the backbone has no ImageNet weights.
    """

    def __init__(
        self,
        backbone: BackboneSettings = VGG16,
        branch: SegmentationBranchSettings = NORMALISED,
        sides: ImageSides = ImageSides(),
        prototypes: Prototypes = Prototypes(background=0.5),
        threshold: float | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__(backbone=backbone, branch=branch, sides=sides, threshold=threshold, init_from=init_from)
        self.prototypes = prototypes
        self.needs_training = backbone.weights == "none"
        if self.segmentation.norm is not None:
            self.segmentation.norm.momentum = None  # the plain mean over all training batches

    @torch.no_grad()
    def adapt(self, support: Examples) -> PixelClassifiers:
        """Return a classifier for each shot: its prototype as w, and b = 0."""
        objects = support_objects(support)
        maps = self.features(support.images)
        rows = zip(maps, objects, support.class_masks, strict=True)
        weight = torch.cat([self._prototype(*row) for row in rows]) * self.segmentation.n_features**-0.5
        return PixelClassifiers(weight, weight.new_zeros(len(weight)), support.labels.to(weight.device))

    def _prototype(self, features: Tensor, objects: Tensor, mask: Tensor) -> Tensor:
        parts = torch.stack([objects, ~objects & (mask != VOID)])[None].to(features)
        weights = pooling_weights(parts, features.shape[-2:], self.sides.align_corners)
        return prototypes(features[None], weights, self.prototypes.background)

    # calibration ------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Do without Lightning's warnings that nothing is optimised: nothing is meant to be."""
        super().setup(stage)
        for message in NOTHING_TRAINED:
            warnings.filterwarnings("ignore", message)

    def configure_optimizers(self) -> None:
        """Return no optimiser: nothing is trained."""

    def on_train_batch_start(self, batch: Episode, batch_idx: int) -> None:
        """Keep everything but the normalisation of the features as it is in evaluation."""
        super().on_train_batch_start(batch, batch_idx)
        self.eval()
        if self.segmentation.norm is not None:
            self.segmentation.norm.train()

    def training_step(self, episode: Episode, batch_idx: int) -> Tensor:
        """Let the normalisation see the query images of all devices; return a loss of zero, because DDP needs one."""
        with torch.no_grad():
            self.batch_features(stacked(episode.query)[0])
            for statistic in self._statistics():
                statistic.copy_(self.trainer.strategy.reduce(statistic, reduce_op="mean"))
        return 0.0 * sum(p.sum() for p in self.parameters() if p.requires_grad)

    def _statistics(self) -> tuple[Tensor, ...]:
        norm = self.segmentation.norm
        return () if norm is None else (norm.running_mean, norm.running_var)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return no terms: nothing is minimised."""
        return {}
