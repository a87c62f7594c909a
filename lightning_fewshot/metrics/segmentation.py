"""Metrics of few-shot segmentation: intersection over union, with pixels summed over all pairs before dividing.

OSLSM (Shaban et al., BMVC 2017), section 5: ``IoU_l = tp / (tp + fp + fn)`` with the pixels of every pair of class l
summed first, and mean IoU its average over classes. FB-IoU is the mean of the IoU of foreground and of background, all
classes together. A *pair* is one class asked of one query image.

Shapes: R weightings (the first is all ones, then the resamples), P pairs, C classes, N classes of an episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fewshot.episodes import VOID, Episode, Segmentation
from lightning_fewshot.metrics.estimate import (
    RESAMPLES,
    Estimate,
    bootstrap_interval,
    bootstrap_weights,
    exact,
    mean_interval,
)
from lightning_fewshot.metrics.gathering import gather_to_cpu
from lightning_fewshot.metrics.region_similarity import counted_frames, region_similarity

Void = Literal["ignore", "background"]
COUNTS = ("tp", "fp", "fn", "tn")
STATES = (*COUNTS, "classes", "episodes", "images_high", "images_low", "seconds", "frames")
HALF = 2**24  # whole numbers below it are exact in float32


def pair_counts(preds: Tensor, target: Tensor, void: Void = "ignore") -> Tensor:
    """Count the pixels of pairs.

    Args:
        preds: ``(..., H, W)`` bool, predicted masks.
        target: ``(..., H, W)`` uint8: 1 object, 0 background, 255 void.
        void: "ignore" leaves void pixels out; "background" counts them as background.

    Returns:
        ``(..., 4)`` int64: true positives, false positives, false negatives, true negatives.

    >>> pair_counts(torch.tensor([[True, True, False, True]]), torch.tensor([[1, 0, 1, 255]])).tolist()
    [1, 1, 1, 0]
    >>> pair_counts(torch.tensor([[True, True, False, True]]), torch.tensor([[1, 0, 1, 255]]), "background").tolist()
    [1, 2, 1, 0]
    """
    truth, known = target == 1, (target != VOID) | (void == "background")
    cells = (preds & truth, preds & ~truth & known, ~preds & truth, ~preds & ~truth & known)
    return torch.stack([cell.flatten(-2).sum(-1) for cell in cells], dim=-1)


def class_iou(counts: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return IoU of each class under each weighting, pixels summed over the pairs of the class.

    Args:
        counts: ``(P, 4)``, from ``pair_counts``.
        classes: ``(P,)`` in [0, C).
        weights: ``(R, P)`` float64.

    Returns:
        ``(R, C)``; nan where a class has no pair, or neither truth nor prediction.

    >>> counts = torch.tensor([[6, 2, 0, 9], [2, 0, 6, 9], [1, 1, 2, 9]])
    >>> class_iou(counts, torch.tensor([0, 0, 1]), torch.ones(1, 3, dtype=torch.float64)).tolist()
    [[0.5, 0.25]]
    """
    n_classes = int(classes.max()) + 1 if len(classes) else 0
    rows = (classes[:, None] == torch.arange(n_classes, device=classes.device)).double()  # (P, C)
    found, union = counts[:, 0].double(), counts[:, :3].sum(1).double()
    return (weights * found) @ rows / ((weights * union) @ rows)


def mean_iou(counts: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over classes of ``class_iou``, ``(R,)``; classes that are nan are left out (section 5)."""
    return class_iou(counts, classes, weights).nanmean(dim=1)


def fb_iou(counts: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of foreground IoU and background IoU over all pairs, classes ignored: ``(R,)``.

    >>> fb_iou(torch.tensor([[2, 1, 1, 6]]), torch.ones(1, 1, dtype=torch.float64)).tolist()
    [0.625]
    """
    tp, fp, fn, tn = (weights @ counts.double()).unbind(1)
    return (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2


class SegmentationMetrics(Metric):
    """Count the pixels of all pairs; ``compute`` gives ``miou``, ``fb_iou`` and, where it was measured, ``seconds``.

    The interval of the first two is a bootstrap over distinct query images with a fixed seed: a photo that is asked
    several times, for other classes or with other supports, is one observation. Images are told apart by name; without
    names each is its own. ``pairs`` says how many questions there were; its n, as theirs, is the number of images.
    ``seconds`` is the mean time of a query image. Of episodes with the protocol "video" there is ``j`` too, with its
    interval over sequences.

    The result does not depend on how the episodes were spread over processes: pairs are sorted by episode. One and the
    same episode must be given by one process only. The states are flat float32 lists on the CPU, because that is what
    torchmetrics puts in for a process that saw nothing; a pair's counts are exact up to 2^24 pixels.

    Args:
        void: What pixels of value 255 in the truth are: "ignore", not counted, or "background".
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        kwargs: For ``torchmetrics.Metric``.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def __init__(self, void: Void = "ignore", resamples: int = RESAMPLES, seed: int = 0, **kwargs):
        super().__init__(**{"dist_sync_fn": gather_to_cpu, **kwargs})
        if void not in ("ignore", "background"):
            raise ValueError(f"void is {void!r} but must be 'ignore' or 'background'")
        self.void, self.resamples, self.seed = void, resamples, seed
        for name in STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @torch.no_grad()
    def update(self, preds: Sequence[Segmentation], episode: Episode) -> None:
        """Count the query images of one episode.

        Args:
            preds: One for each query image: masks of the class that ``query.labels`` asks for, or of all N classes
                where there are no labels.
            episode: Its query has class masks; ``class_ids`` turns labels into classes of the split.

        Raises:
            ValueError: No truth, or predictions of another number or size.
        """
        truth = episode.query.class_masks
        if truth is None or len(preds) != len(truth):
            given = "no masks" if truth is None else f"{len(truth)} masks"
            raise ValueError(f"episode {episode.index}: query has {given} to compare {len(preds)} predictions with")
        numbers = episode.class_ids or range(len(episode.classes))
        is_frame = counted_frames(len(truth)) & (episode.protocol == "video")
        for i, (pred, mask) in enumerate(zip(preds, truth, strict=True)):
            asked = range(len(numbers)) if episode.query.labels is None else [int(episode.query.labels[i])]
            if pred.masks.shape != (len(asked), *mask.shape):
                raise ValueError(
                    f"episode {episode.index}, image {i}: predicted masks have shape {tuple(pred.masks.shape)}, "
                    f"expected {(len(asked), *mask.shape)}"
                )
            self._add(pred, mask, list(asked), [numbers[c] for c in asked])
            self._add_image(image_number(episode, i), len(asked))
            self.episodes.append(torch.full((len(asked),), float(episode.index)))
            self.frames.append(is_frame[i].float().expand(len(asked)))

    def _add(self, pred: Segmentation, mask: Tensor, asked: list[int], numbers: list[int]) -> None:
        values = torch.tensor(asked, device=mask.device)[:, None, None] + 1
        target = (mask == values).to(torch.uint8).masked_fill_(mask == VOID, VOID)
        counts = pair_counts(pred.masks, target, self.void).float().cpu()
        for name, column in zip(COUNTS, counts.unbind(1), strict=True):
            getattr(self, name).append(column)
        self.classes.append(torch.tensor(numbers, dtype=torch.float32))
        seconds = float("nan") if pred.seconds is None else pred.seconds
        self.seconds.append(torch.full((len(asked),), seconds))

    def _add_image(self, number: int, n_pairs: int) -> None:
        for state, half in zip((self.images_high, self.images_low), divmod(number, HALF), strict=True):
            state.append(torch.full((n_pairs,), float(half)))

    def compute(self) -> dict[str, Estimate]:
        """Sum, divide and resample everything counted so far."""
        state = {name: _joined(getattr(self, name)) for name in STATES}
        order = state["episodes"].argsort(stable=True)
        counts = torch.stack([state[name] for name in COUNTS], dim=1)[order]
        classes, is_frame = state["classes"].long()[order], state["frames"][order] > 0
        sequences = region_similarity(counts[is_frame], classes[is_frame])
        classes = classes.unique(return_inverse=True)[1]
        groups = first_appearances((state["images_high"].double() * HALF + state["images_low"])[order])
        n_images = int(groups.max()) + 1 if len(groups) else 0
        weights = bootstrap_weights(n_images, torch.Generator().manual_seed(self.seed), self.resamples)[:, groups]
        values = {"miou": mean_iou(counts, classes, weights), "fb_iou": fb_iou(counts, weights)}
        estimates = {name: bootstrap_interval(value, n_images) for name, value in values.items()}
        estimates["pairs"] = exact(float(len(order)), n_images)
        if len(sequences):
            estimates["j"] = mean_interval(sequences, limits=(0.0, 1.0))
        seconds = state["seconds"][state["seconds"].isfinite()]
        return estimates | ({"seconds": mean_interval(seconds)} if len(seconds) else {})


def image_number(episode: Episode, place: int) -> int:
    """Return a number below 2^48 that tells query image ``place`` from others, the same in every process."""
    names = episode.query.names
    name = f"{episode.index}/{place}" if names is None else names[place]
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def first_appearances(values: Tensor) -> Tensor:
    """Number distinct values by the order in which they appear.

    >>> first_appearances(torch.tensor([7, 3, 7, 5])).tolist()
    [0, 1, 0, 2]
    """
    places: dict[float, int] = {}
    return torch.tensor([places.setdefault(value, len(places)) for value in values.tolist()], dtype=torch.int64)


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """Concatenate a list state; after a synchronisation it is one tensor already."""
    parts = [state] if isinstance(state, Tensor) else state
    return torch.cat([part.reshape(-1).float().cpu() for part in parts]) if len(parts) else torch.zeros(0)
