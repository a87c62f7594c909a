"""How OSLSM's last layers train on cached pairs: a recipe says how fast each moves and what is minimised.

Shapes: P pairs, K shots, D features, F features before g's last layer, (H, W) pixels, (h, w) locations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from oslsm_bench.pairs import Pairs, part_of
from oslsm_bench.rows import Method, Questions
from oslsm_sets import BATCH
from torch import Tensor, nn

from lightning_fewshot.models.oslsm import OSLSMSegmenter
from lightning_fewshot.models.oslsm.classifiers import pixel_logits
from lightning_fewshot.models.oslsm.grid import upsampled
from lightning_fewshot.models.oslsm.loss import dice_loss, pixel_loss
from lightning_fewshot.models.oslsm.settings import PixelLoss

DICE = PixelLoss(dice=1.0)


@dataclass(frozen=True)
class Recipe:
    """How the last layers train.

    Args:
        phi: Learning rate of phi's last convolution.
        g: Learning rate of g's last layer.
        bias: Learning rate of a number that is added to every b; 0: there is none.
        loss: What is minimised.
        steps: Of ``BATCH`` pairs.
    """

    phi: float = 1e-4
    g: float = 1e-4
    bias: float = 0.0
    loss: PixelLoss = DICE
    steps: int = 300


RECIPES = {
    "photos.yaml: g at a hundredth": Recipe(phi=1e-3, g=1e-5, steps=200),
    "phi alone": Recipe(phi=3e-4, g=0.0),
    "g alone": Recipe(phi=0.0, g=3e-4),
    "g alone, fast": Recipe(phi=0.0, g=3e-3),
    "phi and g": Recipe(phi=3e-4, g=3e-4),
    "phi and g, fast": Recipe(phi=1e-3, g=1e-3),
    "phi and g, contrast": Recipe(phi=3e-4, g=3e-4, loss=PixelLoss(dice=0.5, contrast=0.5)),
    "phi and g, pixels": Recipe(phi=3e-4, g=3e-4, loss=PixelLoss(dice=0.5)),
    "phi and g, learned bias": Recipe(phi=3e-4, g=3e-4, bias=1e-2),
    "phi and g, 900 steps": Recipe(phi=3e-4, g=3e-4, steps=900),
}


def features_of(module: OSLSMSegmenter, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Return conv-fc7 ``(P, D, h, w)`` and the classifiers w ``(P, D)``, b ``(P,)``."""
    shots = pairs.seen.float() if pairs.seen.dim() == 3 else pairs.seen[:, None].float()  # (P, K, F)
    weight, bias = module.conditioning.classifiers(module.conditioning.network.code(shots.flatten(0, 1)))
    features = module.segmentation.top(pairs.maps.float())
    return features, weight.view(*shots.shape[:2], -1).mean(1), bias.view(shots.shape[:2]).mean(1)


def loss_of(module: OSLSMSegmenter, pairs: Pairs, settings: PixelLoss) -> Tensor:
    """Return the loss of a batch, as OSLSMSegmenter has it."""
    features, weight, bias = features_of(module, pairs)
    size = pairs.masks.shape[-2:]
    every = upsampled(pixel_logits(weight, bias, features), size, align_corners=True)  # (query, class asked)
    asked = every.diagonal().permute(2, 0, 1)
    loss = (1 - settings.dice - settings.contrast) * pixel_loss(asked, pairs.masks)
    loss = loss + settings.dice * dice_loss(asked, pairs.masks)
    if settings.contrast:
        same = pairs.classes[:, None] == pairs.classes  # a photo's other classes are not told: they count as background
        target = pairs.masks[:, None] * same[..., None, None].to(torch.uint8)
        loss = loss + settings.contrast * dice_loss(every.transpose(0, 1), target.transpose(0, 1))
    return loss


def batches(pairs: Pairs, steps: int, seed: int = 0) -> Iterator[Pairs]:
    """Draw the same pairs for every recipe, in an order of the seed."""
    generator, order = torch.Generator().manual_seed(1 + seed), torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(pairs.classes), generator=generator)
        yield part_of(pairs, order[:BATCH])
        order = order[BATCH:]


@torch.no_grad()
def calibrate(module: OSLSMSegmenter, pairs: Pairs) -> None:
    """Take the features' mean and variance from training pairs: the start of every recipe."""
    norm = module.segmentation.norm
    norm.momentum = None
    module.train()
    for batch in batches(pairs, 24):
        module.segmentation.top(batch.maps.float())
    norm.momentum = 0.1
    module.eval()


def train(module: OSLSMSegmenter, pairs: Pairs, recipe: Recipe, seed: int = 0) -> None:
    """Train the last layers in place."""
    phi = [p for p in module.segmentation.top.parameters() if p.requires_grad]
    g = [*module.conditioning.network.body.get_classifier().parameters()]
    rates = ((phi, recipe.phi), (g, recipe.g), ([module.conditioning.bias], recipe.bias))
    groups = [{"params": part, "lr": lr} for part, lr in rates if lr]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in groups], total_steps=recipe.steps, pct_start=0.05
    )
    module.train()
    if not recipe.phi:
        module.segmentation.eval()
    for batch in batches(pairs, recipe.steps, seed):
        optimizer.zero_grad()
        loss_of(module, batch, recipe.loss).backward()
        nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 10.0)
        optimizer.step()
        schedule.step()
    module.eval()


def oslsm(module: OSLSMSegmenter) -> Method:
    """Return OSLSM's answers, with the mean (w, b) of all shots."""

    @torch.no_grad()
    def method(questions: Questions) -> Iterator[Tensor]:
        pairs = questions.pairs
        for first in range(0, len(pairs.classes), BATCH):
            batch = part_of(pairs, slice(first, first + BATCH))
            features, weight, bias = features_of(module, batch)
            logits = pixel_logits(weight[:, None], bias[:, None], features)
            yield from upsampled(logits, batch.masks.shape[-2:], True)[:, 0].sigmoid()

    return method
