"""OSLSMSegmenter: one network predicts the pixel classifier of another.

One-Shot Learning for Semantic Segmentation (Shaban et al., BMVC 2017), sections 3 and 4.

Shapes: S shots, B query images (in training also pairs P, one a query image), D features, (H, W) pixels, (h, w)
feature-map locations.
"""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.oslsm.classifiers import (
    PixelClassifiers,
    any_shot,
    mean_classifiers,
    pixel_logits,
    sort_by_class,
)
from lightning_fewshot.models.oslsm.loss import dice_loss, pixel_loss
from lightning_fewshot.models.oslsm.masks import label_targets, pair_index, stacked, support_objects
from lightning_fewshot.models.oslsm.network import ConditioningBranch
from lightning_fewshot.models.oslsm.pixel_segmenter import RUN, VGG16, PixelSegmenter
from lightning_fewshot.models.oslsm.settings import (
    ImageSides,
    PixelLoss,
    SegmentationBranchSettings,
    ShotAggregation,
    SupportEncoder,
    check_choice,
)
from lightning_fewshot.settings import BackboneSettings, Optimization, decay_groups


class OSLSMSegmenter(PixelSegmenter):
    """Predict a logistic pixel classifier (w, b) from each masked support image, eq. (1), and apply it, eq. (2).

    Args:
        backbone: Of both branches. The paper has vgg16; ``frozen_stages`` is the segmentation branch's alone.
        branch: What the segmentation branch has on top of its backbone.
        sides: How large query images enter it.
        encoder: The conditioning branch.
        loss: What is minimised.
        shot_aggregation: k shots are joined by the "or" of their masks (section 4.4), or by the "mean" of their (w, b).
        threshold: A pixel is the object's above this probability, in (0, 1); None: chosen on validation episodes.
        bias_lr_factor: Learning rate of biases (and of what else has one dimension), as a multiple of the others' (2 in
            the authors' code).
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start training from, as far as names and shapes agree.

    Raises:
        ValueError: Settings that cannot be, or cannot be together.
    """

    def __init__(
        self,
        backbone: BackboneSettings = VGG16,
        branch: SegmentationBranchSettings = SegmentationBranchSettings(),
        sides: ImageSides = ImageSides(),
        encoder: SupportEncoder = SupportEncoder(),
        loss: PixelLoss = PixelLoss(),
        shot_aggregation: ShotAggregation = "or",
        threshold: float | None = None,
        bias_lr_factor: float = 1.0,
        optimization: Optimization = RUN,
        init_from: str | None = None,
    ) -> None:
        shared = {"threshold": threshold, "optimization": optimization, "init_from": init_from}
        super().__init__(backbone=backbone, branch=branch, sides=sides, **shared)
        check_choice("shot_aggregation", shot_aggregation, get_args(ShotAggregation))
        if bias_lr_factor <= 0:
            raise ValueError(f"bias_lr_factor is {bias_lr_factor} but must be above 0")
        if encoder.prototype_init and branch.fc is not None:
            raise ValueError(
                "prototype_init needs fc: null in branch: new layers give features that no prototype is of"
            )
        self.conditioning = ConditioningBranch(backbone, encoder, self.segmentation.n_features, sides.align_corners)
        self.encoder = encoder
        self.pixel_loss = loss
        self.shot_aggregation = shot_aggregation
        self.bias_lr_factor = bias_lr_factor

    def adapt(self, support: Examples) -> PixelClassifiers:
        """Turn shots into pixel classifiers: (w, b) of each shot, or of each class where they are averaged."""
        return self._classifiers(support, support.labels.to(self.device))

    def _classifiers(self, support: Examples, classes: Tensor) -> PixelClassifiers:
        objects = support_objects(support, check=self.looks)
        together = torch.stack(objects) if isinstance(support.images, Tensor) else objects
        state = PixelClassifiers(*self.conditioning(support.images, together), classes)
        return state if self.shot_aggregation == "or" else mean_classifiers(state)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the loss of a batch of pairs: eq. (3), and the shares of the overlap losses that are asked for.

        Raises:
            ValueError: A query image without a shot.
        """
        images, masks = stacked(episode.query)
        features = self.batch_features(images)
        state, counts = sort_by_class(self._classifiers(episode.support, pair_index(episode.support)))
        if len(counts) != len(masks):
            raise ValueError(f"query_index gives shots to {len(counts)} of {len(masks)} query images; each needs one")
        with self.full_precision():
            return self._loss_terms(self._pair_scores(state, counts, features.float(), masks), masks, episode)

    def _pair_scores(self, state: PixelClassifiers, counts: list[int], features: Tensor, masks: Tensor) -> Tensor:
        """Return the scores of pair p's classifiers on its own image ``(P, 1, H, W)``; with contrast on all B."""
        if self.pixel_loss.contrast:
            logits = pixel_logits(state.weight, state.bias, features).transpose(0, 1)  # (S, B, h, w)
        else:
            asked = features[state.classes.to(features.device, non_blocking=True)]
            logits = pixel_logits(state.weight[:, None], state.bias[:, None], asked)  # (S, 1, h, w)
        size, align = masks.shape[-2:], self.sides.align_corners
        return torch.stack([any_shot(shots, size, align) for shots in logits.split(counts)])

    def _loss_terms(self, scores: Tensor, masks: Tensor, episode: Episode) -> dict[str, Tensor]:
        settings, labels = self.pixel_loss, episode.query.labels
        pairs = torch.arange(len(masks), device=masks.device)
        asked = scores[pairs, pairs] if settings.contrast else scores[:, 0]
        target = label_targets(masks, labels)
        likelihood = pixel_loss(asked, target, settings.reduction, settings.positive_weight)  # eq. (3)
        terms = {"pixels": (1 - settings.dice - settings.contrast) * likelihood}
        if settings.dice:
            terms["dice"] = settings.dice * dice_loss(asked, target)
        if settings.contrast:
            terms["contrast"] = settings.contrast * dice_loss(scores, label_targets(masks[None], labels[:, None]))
        return terms

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the conditioning network its own learning rate (section 4.3), and biases theirs without decay."""
        slow = list(self.conditioning.network.parameters())
        chosen = {id(p) for p in slow}
        rest = [p for p in self.parameters() if id(p) not in chosen]
        groups = decay_groups(rest) + decay_groups(slow, self.encoder.lr_factor)
        for group in groups:
            if "weight_decay" in group:
                group["lr_factor"] *= self.bias_lr_factor
        return groups
