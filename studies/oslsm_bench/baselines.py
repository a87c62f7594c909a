"""Table 1's other rows on the cached features of studies/oslsm_training.py: they see what OSLSM's phi starts from.

The paper's baselines classify the features of a classifier of all training classes. A cached pair has the mask of one
class, so that none can be trained here: features are ImageNet's, normalised by the statistics of training photos.

Shapes: B pairs, K shots, D features, (H, W) pixels, (h, w) locations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from oslsm_bench.pairs import part_of
from oslsm_bench.rows import Method, Questions
from oslsm_sets import BATCH
from torch import Tensor
from torch.func import functional_call

from lightning_fewshot.models.oslsm.classifiers import pixel_logits
from lightning_fewshot.models.oslsm.finetuning import LabelledMaps, finetune
from lightning_fewshot.models.oslsm.grid import upsampled
from lightning_fewshot.models.oslsm.logistic import logistic_regression
from lightning_fewshot.models.oslsm.nearest import Neighbours, labelled_locations, neighbour_logits
from lightning_fewshot.models.oslsm.pooling import prototypes
from lightning_fewshot.models.oslsm.segmentation_branch import SegmentationBranch

BACKGROUND = 0.5  # share that prototypes take off, as PrototypeSegmenter does


def parts_of(questions: Questions) -> Iterator[Questions]:
    """Yield batches of pairs; the table of supports stays whole."""
    pairs, supports = questions
    for first in range(0, len(pairs.classes), BATCH):
        part = slice(first, first + BATCH)
        yield Questions(part_of(pairs, part), supports._replace(index=supports.index[part]))


def at_pixels(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the probabilities of ``(B, K, h, w)`` logits at the masks' pixels, joined by their maximum."""
    return upsampled(logits, masks.shape[-2:], True).amax(1).sigmoid()


def untrained_prototypes(branch: SegmentationBranch) -> Method:
    """Return PrototypeSegmenter: each location's inner product with the mean feature of the object."""

    @torch.no_grad()
    def method(questions: Questions) -> Iterator[Tensor]:
        supports = questions.supports
        table = [
            prototypes(branch.top(maps[None].float()), weights[None].float(), BACKGROUND)[0]
            for maps, weights in zip(supports.maps, supports.weights, strict=True)
        ]
        weight = torch.stack(table) * branch.n_features**-0.5  # (U, D)
        for pairs, known in parts_of(questions):
            shots = weight[known.index]  # (B, K, D)
            logits = pixel_logits(shots, shots.new_zeros(shots.shape[:2]), branch.top(pairs.maps.float()))
            yield from at_pixels(logits, pairs.masks)

    return method


def nearest_neighbours(branch: SegmentationBranch) -> Method:
    """Return 1-NN: how much nearer the object's nearest location is than the background's."""

    def logits(shots: Neighbours, features: Tensor) -> Tensor:
        return neighbour_logits(shots, features) * branch.n_features**-0.5

    return labelled(branch, logits)


def logistic(branch: SegmentationBranch) -> Method:
    """Return logistic regression on the locations of the support."""

    def logits(shots: Neighbours, features: Tensor) -> Tensor:
        weight, bias = logistic_regression(shots.features[0], shots.objects[0])
        return pixel_logits(weight[None], bias[None], features)

    return labelled(branch, logits)


def fine_tuning(branch: SegmentationBranch, steps: int = 50, lr: float = 1e-3) -> Method:
    """Return fine-tuning of fc6, fc7 and a new fc8 on the support, with FineTuningSegmenter's steps and rate."""

    def method(questions: Questions) -> Iterator[Tensor]:
        for pairs, known in parts_of(questions):
            for i, shots in enumerate(known.index):
                maps, labels = known.maps[shots].float(), [(o, k) for o, k in known.labels[shots]]
                support = LabelledMaps(list(maps), labels, torch.zeros(len(shots), dtype=torch.int64))
                state = finetune(branch.top, support, steps=steps, lr=lr)
                with torch.no_grad():
                    features = functional_call(branch.top, dict(state.top), pairs.maps[i : i + 1].float())
                    yield at_pixels(pixel_logits(state.weight, state.bias, features), pairs.masks[i])[0]

    return method


def labelled(branch: SegmentationBranch, logits: Callable[[Neighbours, Tensor], Tensor]) -> Method:
    """Return the method that gives ``logits`` the labelled locations of a pair's shots and the query's features."""

    @torch.no_grad()
    def method(questions: Questions) -> Iterator[Tensor]:
        for pairs, known in parts_of(questions):
            features = branch.top(pairs.maps.float())
            for i, shots in enumerate(known.index):
                maps = branch.top(known.maps[shots].float())
                labels = [(o, k) for o, k in known.labels[shots]]
                state = labelled_locations(list(maps), labels, torch.zeros(len(shots), dtype=torch.int64))
                yield at_pixels(logits(state, features[i])[None], pairs.masks[i])[0]

    return method
