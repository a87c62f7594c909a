"""How a row of studies/oslsm_training.py is measured: a threshold from validation classes, a bootstrap over images.

A method gives the probability of the object at every pixel of each pair. Its threshold is the one of highest mean IoU
on validation pairs. Mean IoU is resampled over query images; of videos J is, over sequences. All methods have the same
resamples, so that differences are paired.

Shapes: P pairs, R resamples, (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from oslsm_bench.pairs import Pairs, Supports
from torch import Tensor
from torch.nn.functional import interpolate

from lightning_fewshot.metrics.estimate import Estimate, bootstrap_interval, bootstrap_weights
from lightning_fewshot.metrics.region_similarity import region_similarity
from lightning_fewshot.metrics.segmentation import first_appearances, mean_iou, pair_counts
from lightning_fewshot.metrics.threshold_sweep import LOGITS, best_threshold, threshold_counts


class Questions(NamedTuple):
    """Pairs, and what the baselines know of their supports."""

    pairs: Pairs
    supports: Supports | None = None


Method = Callable[[Questions], Iterator[Tensor]]  # the probability of the object at each pixel, (H, W), of every pair


def chosen_threshold(method: Method, val: Questions) -> tuple[float, float]:
    """Return the probability of highest mean IoU on validation pairs, and that mean IoU."""
    sweeps = torch.stack([threshold_counts(p, m) for p, m in zip(method(val), val.pairs.masks, strict=True)])
    classes = val.pairs.classes.unique(return_inverse=True)[1]
    best = best_threshold(sweeps, classes)
    once = torch.ones(1, len(sweeps), dtype=torch.float64)
    return LOGITS[best].sigmoid().item(), mean_iou(sweeps[:, best], classes, once).item()


class Bootstrap:
    """The measure of a set under resamples of its query images, or of its sequences.

    Args:
        questions: What is asked.
        video: Whether classes are sequences, and J is the measure.
    """

    def __init__(self, questions: Questions, video: bool = False) -> None:
        self.questions = questions
        self.video = video
        self.classes = questions.pairs.classes.unique(return_inverse=True)[1]
        self.groups = first_appearances(questions.pairs.classes if video else questions.pairs.images)
        self.n_groups = int(self.groups.max()) + 1
        self.weights = bootstrap_weights(self.n_groups, torch.Generator().manual_seed(0))

    def values(self, method: Method, threshold: float = 0.5, questions: Questions | None = None) -> Tensor:
        """Return the measure of the whole set, then of each resample, ``(1 + R,)``.

        Args:
            method: What is measured.
            threshold: A pixel is the object's above this probability.
            questions: The same pairs with other supports; None: as they are.
        """
        masks = self.questions.pairs.masks
        predicted = method(questions or self.questions)
        counts = torch.stack([pair_counts(p > threshold, mask) for p, mask in zip(predicted, masks, strict=True)])
        if self.video:
            return self.weights @ region_similarity(counts, self.groups) / self.n_groups
        return mean_iou(counts, self.classes, self.weights[:, self.groups])


def mismatched(questions: Questions) -> Questions:
    """Give every pair the supports of the next one that asks for another class.

    Raises:
        ValueError: All ask for one class.
    """
    pairs, order = questions.pairs, []
    if len(pairs.classes.unique()) == 1:
        raise ValueError(f"all {len(pairs.classes)} pairs ask for one class: no support is of another")
    for i, label in enumerate(pairs.classes.tolist()):
        others = (pairs.classes.roll(-i - 1) != label).nonzero()[0, 0]
        order.append((i + 1 + int(others)) % len(pairs.classes))
    return _reordered(questions, torch.tensor(order))


def _reordered(questions: Questions, order: Tensor) -> Questions:
    pairs, supports = questions
    if supports is not None:
        supports = supports._replace(index=supports.index[order])
    return Questions(pairs._replace(seen=pairs.seen[order]), supports)


def with_shots(questions: Questions, shots: int) -> Questions:
    """Return the same pairs with their first shots alone."""
    pairs, supports = questions
    seen = pairs.seen if pairs.seen.dim() == 2 else pairs.seen[:, :shots]
    return Questions(
        pairs._replace(seen=seen), None if supports is None else supports._replace(index=supports.index[:, :shots])
    )


def copied_mask(questions: Questions) -> Iterator[Tensor]:
    """Yield the mask of the support, scaled to the query; of several shots the share that agrees."""
    supports, size = questions.supports, questions.pairs.masks.shape[-2:]
    for shots in supports.index:
        yield interpolate(supports.masks[shots][:, None].float(), tuple(size), mode="nearest-exact")[:, 0].mean(0)


def all_foreground(questions: Questions) -> Iterator[Tensor]:
    """Yield ones."""
    return (torch.ones(mask.shape) for mask in questions.pairs.masks)


TRIVIAL: dict[str, Method] = {"the support's mask copied": copied_mask, "all foreground": all_foreground}


def show(estimate: Estimate) -> str:
    """Return a value and half its interval, in percent."""
    return f"{100 * estimate.value:.1f} ± {50 * (estimate.high - estimate.low):.1f}"


def cell(values: Tensor) -> str:
    """Return the measure of one set, or a difference, with its interval where there are resamples."""
    if values.numel() == 1:
        return f"{100 * float(values):.1f}"
    return show(bootstrap_interval(values, values.numel(), limits=(-1.0, 1.0)))


def mean_of(sets: Sequence[Tensor]) -> str:
    """Return the mean over sets, which are resampled independently."""
    return cell(torch.stack(list(sets)).mean(0))
