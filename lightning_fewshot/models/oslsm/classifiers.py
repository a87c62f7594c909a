"""Logistic classifiers of pixels: eq. (2), and how k shots of a class become one mask (section 4.4).

Training, prediction and the exported FCN use the same functions in the same order: a score at every feature-map
location (eq. 2), bilinear upsampling to pixels, then the maximum over the shots of a class. A pixel's maximum is above
a threshold where any shot's score is: the logical OR of k masks.

Shapes: S shots, N classes (in training: query images, each asked for one class), D features, (h, w) locations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fewshot.episodes import Segmentation
from lightning_fewshot.models.oslsm.grid import upsampled

PIXELS_AT_ONCE = 2**24  # upsampled logits held together, 64 MiB: bounds the memory of images of any size


class PixelClassifiers(NamedTuple):
    """Logistic classifiers of pixels, and whose they are.

    Args:
        weight: ``(S, D)``, one w for each shot (or each class, where a method joins its shots).
        bias: ``(S,)``.
        classes: ``(S,)`` int64, index into ``Episode.classes`` (in training: the query image that each belongs to).
        top: Parameters of fc6 and fc7 where an episode has its own (fine-tuning), by name.
    """

    weight: Tensor
    bias: Tensor
    classes: Tensor
    top: Mapping[str, Tensor] | None = None

    def merged(self, other: PixelClassifiers, places: Tensor) -> PixelClassifiers:
        """Return the classifiers of both; a pixel is a class's where any of them says so.

        That is what adapting to all shots at once gives, but for methods that join the shots of a class.

        Args:
            other: Further classifiers.
            places: ``(N',)``, the class here of each class of ``other``.

        Raises:
            ValueError: One of them has layers of its own.
        """
        if self.top is not None or other.top is not None:
            raise ValueError("a state with layers of its own cannot grow: adapt to all examples at once")
        weight, bias = torch.cat([self.weight, other.weight]), torch.cat([self.bias, other.bias])
        return PixelClassifiers(weight, bias, torch.cat([self.classes, places.to(self.classes)[other.classes]]))


def pixel_logits(weight: Tensor, bias: Tensor, features: Tensor) -> Tensor:
    """Return ``w . F_mn + b`` of every classifier at every location, eq. (2) before its sigmoid.

    Args:
        weight: ``(S, D)``, or ``(B, S, D)`` where every image has its own classifiers.
        bias: ``(S,)``, or ``(B, S)``.
        features: ``(D, h, w)``, or ``(B, D, h, w)``.

    Returns:
        ``(S, h, w)``, or ``(B, S, h, w)``.
    """
    scores = torch.einsum("...sd,...dhw->...shw", weight.to(features.dtype), features)
    return scores + bias[..., None, None]  # eq. (2)


def mean_classifiers(state: PixelClassifiers) -> PixelClassifiers:
    """Return one classifier for each class, the mean of its shots' (w, b): its scores are the mean of theirs."""
    classes, *found = state.classes.unique(return_inverse=True, return_counts=True)
    place, shots = (part.to(state.weight.device, non_blocking=True) for part in found)
    weight = state.weight.new_zeros(len(classes), state.weight.shape[1]).index_add(0, place, state.weight)
    bias = state.bias.new_zeros(len(classes)).index_add(0, place, state.bias)
    return PixelClassifiers(weight / shots[:, None], bias / shots, classes)


def sort_by_class(state: PixelClassifiers) -> tuple[PixelClassifiers, list[int]]:
    """Return the classifiers with those of a class side by side, and how many each class has, classes in order."""
    order = state.classes.argsort(stable=True)
    counts = state.classes.unique(return_counts=True)[1].tolist()
    place = order.to(state.weight.device, non_blocking=True)
    return PixelClassifiers(state.weight[place], state.bias[place], state.classes[order], state.top), counts


def any_shot(logits: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Upsample the logits of the shots of one class to pixels, then take their maximum: the OR of section 4.4.

    At most ``PIXELS_AT_ONCE`` upsampled logits (or those of one shot) are held together.

    Args:
        logits: ``(K, B, h, w)`` of K shots on B images.
        size: (H, W).
        align_corners: See ``grid.upsampled``.

    Returns:
        ``(B, H, W)``.
    """
    at_once = max(1, PIXELS_AT_ONCE // (logits.shape[1] * size[0] * size[1]))
    highest = None
    for part in logits.split(at_once):
        scores = upsampled(part, size, align_corners).amax(0)
        highest = scores if highest is None else torch.maximum(highest, scores)
    return highest


def segment(
    logits: Tensor,
    classes: Tensor,
    asked: Sequence[int],
    *,
    size: Sequence[int],
    threshold: float = 0.5,
    align_corners: bool = False,
) -> Segmentation:
    """Turn the logits of one image into masks: ``any_shot`` of each class, then the threshold.

    Args:
        logits: ``(S, h, w)``.
        classes: ``(S,)``, class of each.
        asked: N classes to give masks of, each with a shot at least.
        size: (H, W) of the masks.
        threshold: A pixel is the object's above this probability.
        align_corners: See ``grid.upsampled``.

    Raises:
        ValueError: A class without a shot is asked for.
    """
    limit = torch.logit(torch.tensor(float(threshold))).item()
    scores = logits.new_empty(len(asked), *size)
    for row, label in enumerate(asked):
        shots = logits[classes == label]
        if len(shots) == 0:
            raise ValueError(f"class {label} is asked for but has no shot; shots: {classes.unique().tolist()}")
        scores[row] = any_shot(shots[:, None], size, align_corners)[0]
    masks = scores > limit
    return Segmentation(masks, label_map(scores, masks, asked), probs=scores.sigmoid_())


def label_map(scores: Tensor, masks: Tensor, asked: Sequence[int]) -> Tensor:
    """Return ``(H, W)`` uint8: 1 + the class of the highest score of those whose mask is set, else 0."""
    values = torch.tensor(asked, device=scores.device) + 1
    highest = scores.masked_fill(~masks, -torch.inf).max(0)  # argmax over the first dimension takes seven times as long
    return (values[highest.indices] * (highest.values > -torch.inf)).to(torch.uint8)
