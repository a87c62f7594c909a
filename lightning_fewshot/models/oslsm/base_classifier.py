"""The baselines of section 6 that share one trained base classifier: 1-NN, logistic regression, fine-tuning.

An FCN is trained to tell background and all training classes apart. What it learned, its dense conv-fc7 features, is
then classified by means of the support alone; the three differ in how, and can be tested from one checkpoint.

Shapes: B images, N training classes, D features, (H, W) pixels, (h, w) feature-map locations.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.oslsm.classifiers import PixelClassifiers
from lightning_fewshot.models.oslsm.finetuning import LabelledMaps, finetune
from lightning_fewshot.models.oslsm.grid import upsampled
from lightning_fewshot.models.oslsm.logistic import Solver, logistic_regression, scikit_logistic_regression
from lightning_fewshot.models.oslsm.loss import base_loss
from lightning_fewshot.models.oslsm.masks import stacked, support_objects
from lightning_fewshot.models.oslsm.nearest import Neighbours, labelled_locations, neighbour_logits
from lightning_fewshot.models.oslsm.pixel_segmenter import PixelSegmenter
from lightning_fewshot.models.oslsm.settings import check_choice


class BaseClassifierSegmenter(PixelSegmenter):
    """Train a classifier of background and all training classes. Subclasses say how a support is used afterwards.

    Args:
        options: See PixelSegmenter.
    """

    one_output_a_class = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.classify: nn.Conv2d | None = None

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make the base classifier's last layer: background and the training classes."""
        super().set_classes(classes)
        self.classify = nn.Conv2d(self.segmentation.n_features, 1 + len(classes), 1)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the cross-entropy of the base classifier on the query images; the support has no part in it."""
        images, masks = stacked(episode.query)
        numbers = torch.tensor(episode.class_ids).to(self.device, non_blocking=True)
        logits = self.classify(self.batch_features(images)).float()
        scores = upsampled(logits, masks.shape[-2:], self.sides.align_corners)
        return {"pixels": base_loss(scores, masks, numbers)}

    @torch.no_grad()
    def adapt(self, support: Examples) -> PixelClassifiers | Neighbours:
        """Turn the labelled locations of the shots into classifiers of features."""
        return self.fit_support(self.labelled_maps(support))

    def labelled_maps(self, support: Examples, maps_only: bool = False) -> LabelledMaps:
        """Return the features of all shots (or what fc6 sees) with the truth at each of their locations."""
        objects = support_objects(support)
        maps = self.features(support.images, maps_only)
        rows = zip(objects, support.class_masks, maps, strict=True)
        return LabelledMaps(maps, [self.location_labels(*row) for row in rows], support.labels.to(self.device))

    @abstractmethod
    def fit_support(self, shots: LabelledMaps) -> PixelClassifiers | Neighbours:
        """Classify features by means of labelled ones."""


class NearestNeighbourSegmenter(BaseClassifierSegmenter):
    """Give each location the label of the nearest location of the support: "1-NN" of table 1."""

    def fit_support(self, shots: LabelledMaps) -> Neighbours:
        """Keep the locations of the shots as they are."""
        return labelled_locations(*shots)

    def location_logits(self, state: Neighbours, features: Tensor) -> Tensor:
        """Return how much nearer the object is than the background over sqrt(D), ``(N, h, w)``."""
        return neighbour_logits(state, features) * len(features) ** -0.5


class LogisticSegmenter(BaseClassifierSegmenter):
    """Fit a logistic regression to the locations of the support: "LogReg" of table 1.

    Args:
        c: Inverse strength of the regularisation, above 0.
        solver: "torch": L-BFGS on the device of the features; or one of scikit-learn's, "lbfgs" and "liblinear" (its
            default at the time of the paper).
        options: See PixelSegmenter.

    Raises:
        ValueError: ``c`` is not above 0, or there is no such solver.
    """

    def __init__(self, c: float = 1.0, solver: Solver = "torch", **options: Any) -> None:
        super().__init__(**options)
        if c <= 0:
            raise ValueError(f"c is {c} but must be above 0")
        check_choice("solver", solver, get_args(Solver))
        self.c = c
        self.solver = solver

    def fit_support(self, shots: LabelledMaps) -> PixelClassifiers:
        """Fit one (w, b) to each class."""
        state = labelled_locations(*shots)
        solve = logistic_regression
        if self.solver != "torch":
            solve = partial(scikit_logistic_regression, solver=self.solver)
        fits = [solve(f, o, self.c) for f, o in zip(state.features, state.objects, strict=True)]
        weights, biases = zip(*fits, strict=True)
        return PixelClassifiers(torch.stack(weights), torch.stack(biases), state.classes)


class FineTuningSegmenter(BaseClassifierSegmenter):
    """Fine-tune fc6, fc7 and a new fc8 on the support: "Finetuning" of table 1.

    Args:
        steps: Gradient steps on each support, at least 1.
        lr: Their learning rate, above 0.
        options: See PixelSegmenter.

    Raises:
        ValueError: Steps or learning rate out of range.
    """

    def __init__(self, steps: int = 50, lr: float = 1e-3, **options: Any) -> None:
        super().__init__(**options)
        if steps < 1:
            raise ValueError(f"steps is {steps} but must be at least 1")
        if lr <= 0:
            raise ValueError(f"lr is {lr} but must be above 0")
        self.steps = steps
        self.lr = lr

    def labelled_maps(self, support: Examples, maps_only: bool = True) -> LabelledMaps:
        """Return what fc6 sees of all shots."""
        return super().labelled_maps(support, maps_only)

    def fit_support(self, shots: LabelledMaps) -> PixelClassifiers:
        """Tune the layers; the state holds their parameters."""
        return finetune(self.segmentation.top, shots, steps=self.steps, lr=self.lr)
