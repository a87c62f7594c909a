"""Fine-tuning of fc6, fc7 and a new fc8 on the support, the baseline "Finetuning" of section 6.

fc8 sees batch-normalised fc7 features, with which it converges faster (section 6); the normalisation by the support's
statistics is folded into the w and b that are returned.

Shapes: S shots, N classes, M locations of all shots, C channels before fc6, D features, (h, w) locations of a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits

from lightning_fewshot.models.oslsm.classifiers import PixelClassifiers

EPSILON = 1e-5  # of the batch normalisation of fc7


class LabelledMaps(NamedTuple):
    """What fc6 sees of each shot, and the truth at each of its locations.

    Args:
        maps: ``(C, h, w)`` of each shot.
        labelled: For each shot ``(h, w)`` bool twice: the object's locations, and those that count in the loss.
        classes: ``(S,)``, class of each shot.
    """

    maps: Sequence[Tensor]
    labelled: Sequence[tuple[Tensor, Tensor]]
    classes: Tensor


def finetune(top: nn.Sequential, shots: LabelledMaps, *, steps: int, lr: float) -> PixelClassifiers:
    """Fine-tune fc6, fc7 and a row of fc8 for each class (Caelles et al., CVPR 2017). ``top`` stays as it is.

    Args:
        top: fc6 and fc7.
        shots: The support.
        steps: Gradient steps of Adam.
        lr: Its learning rate.

    Returns:
        One classifier for each class, with the parameters of fc6 and fc7 that it belongs to.
    """
    classes, place = shots.classes.unique(return_inverse=True)
    tuned = {name: p.detach().clone().requires_grad_(True) for name, p in top.named_parameters()}
    width = [layer for layer in top if isinstance(layer, nn.Conv2d)][-1].out_channels
    weight = torch.zeros(len(classes), width, device=classes.device, requires_grad=True)
    bias = torch.zeros(len(classes), device=classes.device, requires_grad=True)
    target, counted, row = _truth(shots, place)
    batches = _batches(shots.maps)
    optimizer = torch.optim.Adam([*tuned.values(), weight, bias], lr=lr)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            inputs, _, _ = _normalised(_features(top, tuned, batches))
            logits = (inputs * weight[row]).sum(1) + bias[row]
            losses = binary_cross_entropy_with_logits(logits, target, counted, reduction="sum")
            (losses / counted.sum()).backward()
            optimizer.step()
    with torch.no_grad():
        _, mean, spread = _normalised(_features(top, tuned, batches))
        folded = weight / spread
        return PixelClassifiers(folded, bias - folded @ mean, classes, {name: p.detach() for name, p in tuned.items()})


def _truth(shots: LabelledMaps, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for all locations ``(M,)``: 1 in the object, 1 where it counts, and the row of fc8."""
    objects, known = zip(*shots.labelled, strict=True)
    target = torch.cat([o.flatten() for o in objects]).float()
    counted = torch.cat([k.flatten() for k in known]).float()
    return target, counted, torch.cat([row.expand(o.numel()) for row, o in zip(place, objects, strict=True)])


def _batches(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return maps in one batch where all have one size, else each alone."""
    one_size = len({m.shape for m in maps}) == 1
    return [torch.stack(list(maps))] if one_size else [m[None] for m in maps]


def _features(top: nn.Sequential, parameters: Mapping[str, Tensor], batches: Sequence[Tensor]) -> Tensor:
    """Return conv-fc7 of all locations, ``(M, D)``."""
    maps = [functional_call(top, dict(parameters), batch).float() for batch in batches]
    return torch.cat([m.flatten(2).transpose(1, 2).flatten(0, 1) for m in maps])


def _normalised(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return features of mean 0 and variance 1, and the mean and spread ``(D,)`` that they had."""
    mean, spread = features.mean(0), (features.var(0, correction=0) + EPSILON).sqrt()
    return (features - mean) / spread, mean, spread
