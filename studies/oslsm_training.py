"""Does training add to what OSLSM starts from? Its last layers, trained on cached features of frozen backbones.

    FEWSHOT_DATA=/data python studies/oslsm_training.py CACHE                        # validation classes
    FEWSHOT_DATA=/data python studies/oslsm_training.py CACHE --test "phi and g"     # novel classes, once

PASCAL-5i's folds of `pascal5i-animals`. Training pairs come from PASCAL's other classes (also photos of its val lists
that show no evaluated class) and from COCO's things and stuff that are none of the evaluated classes, half each.

CACHE is a folder: what is in it is not computed again. What fc6 sees of a query photo, and the prototypes that g
pools from a support photo, are computed once; phi's last convolution and g's last layer then train for seconds. A
recipe says how fast each moves and what is minimised. Every recipe sees the same pairs; a seed gives their order.
Differences from the start are paired: the bootstrap over query images draws the same images for both.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from oslsm_pairs import BATCH, VALIDATION_CLASSES, Pairs, data_of, pairs_of, part_of, segmenter
from torch import Tensor, nn

from lightning_fewshot.metrics.estimate import Estimate, bootstrap_interval, bootstrap_weights
from lightning_fewshot.metrics.segmentation import first_appearances, mean_iou, pair_counts
from lightning_fewshot.metrics.threshold_sweep import LOGITS, best_threshold, threshold_counts
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
        loss: What is minimised.
        steps: Of ``BATCH`` pairs.
    """

    phi: float = 1e-4
    g: float = 1e-4
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
    "phi and g, 900 steps": Recipe(phi=3e-4, g=3e-4, steps=900),
}


def features_of(module: OSLSMSegmenter, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Return conv-fc7 ``(P, D, h, w)`` and the classifiers w ``(P, D)``, b ``(P,)``."""
    weight, bias = module.conditioning.classifiers(module.conditioning.network.code(pairs.prototypes.float()))
    return module.segmentation.top(pairs.maps.float()), weight, bias


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
    groups = [{"params": part, "lr": lr} for part, lr in ((phi, recipe.phi), (g, recipe.g)) if lr]
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


@torch.no_grad()
def scores_of(module: OSLSMSegmenter, pairs: Pairs) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield probabilities and truth ``(H, W)`` of every pair."""
    for first in range(0, len(pairs.classes), BATCH):
        batch = part_of(pairs, slice(first, first + BATCH))
        features, weight, bias = features_of(module, batch)
        logits = pixel_logits(weight[:, None], bias[:, None], features)
        yield from zip(upsampled(logits, batch.masks.shape[-2:], True)[:, 0].sigmoid(), batch.masks, strict=True)


def chosen_threshold(module: OSLSMSegmenter, val: Pairs) -> tuple[float, float]:
    """Return the probability of highest mean IoU on validation pairs, and that mean IoU."""
    sweeps = torch.stack([threshold_counts(p, m) for p, m in scores_of(module, val)])
    classes = val.classes.unique(return_inverse=True)[1]
    best = best_threshold(sweeps, classes)
    once = torch.ones(1, len(sweeps), dtype=torch.float64)
    return LOGITS[best].sigmoid().item(), mean_iou(sweeps[:, best], classes, once).item()


@dataclass
class Bootstrap:
    """Mean IoU of a fold under resamples of its query images."""

    pairs: Pairs
    weights: Tensor = field(init=False)
    classes: Tensor = field(init=False)

    def __post_init__(self) -> None:
        groups = first_appearances(self.pairs.images)
        self.images = int(groups.max()) + 1
        self.weights = bootstrap_weights(self.images, torch.Generator().manual_seed(0))[:, groups]
        self.classes = self.pairs.classes.unique(return_inverse=True)[1]

    def values(self, module: OSLSMSegmenter, threshold: float, pairs: Pairs | None = None) -> Tensor:
        """Return mean IoU under each resample, ``(1 + R,)``."""
        scored = scores_of(module, pairs or self.pairs)
        counts = torch.stack([pair_counts(p > threshold, mask) for p, mask in scored])
        return mean_iou(counts, self.classes, self.weights)


def mismatched(pairs: Pairs) -> Pairs:
    """Give every pair the support of the next one that asks for another class."""
    order = []
    for i, label in enumerate(pairs.classes.tolist()):
        others = (pairs.classes.roll(-i - 1) != label).nonzero()[0, 0]
        order.append((i + 1 + int(others)) % len(pairs.classes))
    return pairs._replace(prototypes=pairs.prototypes[torch.tensor(order)])


def show(estimate: Estimate) -> str:
    """Return a value and half its interval, in percent."""
    return f"{100 * estimate.value:.1f} ± {50 * (estimate.high - estimate.low):.1f}"


def mean_of(folds: Sequence[Tensor]) -> str:
    """Return the mean over folds, with an interval where there are resamples; folds are resampled independently."""
    mean = torch.stack(list(folds)).mean(0)
    if mean.numel() == 1:
        return f"{100 * float(mean):.1f}"
    return show(bootstrap_interval(mean, mean.numel(), limits=(-1.0, 1.0)))


def main() -> None:
    """Print the rows of validation, or of the novel classes for one recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path, help="folder of what was computed before")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3], choices=list(VALIDATION_CLASSES))
    parser.add_argument("--batches", type=int, default=150, help=f"training batches of {BATCH} pairs, computed once")
    parser.add_argument("--queries", type=int, default=1000, help="test pairs of a fold at most")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=1, help="of training")
    parser.add_argument("--test", choices=list(RECIPES), help="ask the novel classes, with this recipe and the start")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    options.cache.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list] = {}
    for fold in options.folds:
        began = time.monotonic()
        for name, values in measured(fold, options).items():
            rows.setdefault(name, []).append(values)
        print(f"fold {fold}: {time.monotonic() - began:.0f} s", flush=True)
    for name, values in rows.items():
        cells = [f"{100 * float(v[0]):.1f}" for v in values]
        print(f"| {name} | {' | '.join(cells)} | {mean_of(values)} |", flush=True)


def measured(fold: int, options: argparse.Namespace) -> dict[str, Tensor]:
    """Return mean IoU of every row of a fold, ``(1,)`` in validation and ``(1 + R,)`` in the test."""
    split = "test" if options.test else "val"
    data = data_of(fold, options.queries)
    torch.manual_seed(0)
    start = segmenter().eval()
    data.setup("fit")
    data.setup("test")
    training = pairs_of(start, data, "train", options.batches, options.cache / f"train{fold}-{options.batches}.pt")
    val = pairs_of(start, data, "val", data.counts["val"], options.cache / f"val{fold}.pt")
    calibrate(start, training)
    rows: dict[str, Tensor] = {}
    threshold, value = chosen_threshold(start, val)
    test = None
    if options.test:
        test = Bootstrap(pairs_of(start, data, split, data.counts[split], options.cache / f"test{fold}.pt"))
        print(f"fold {fold}: {len(test.pairs.classes)} pairs, {test.images} query images", flush=True)
    rows["start"] = torch.tensor([value]) if test is None else test.values(start, threshold)
    print(f"  start: {100 * float(rows['start'][0]):.1f}", flush=True)
    if test is not None:
        rows["start, mismatched support"] = test.values(start, threshold, mismatched(test.pairs))
    for name in [options.test] if options.test else options.recipes:
        for seed in range(options.seeds):
            rows |= trained(start, name, seed, (training, val), test, rows["start"])
    return rows


def trained(start, name: str, seed: int, known: tuple[Pairs, Pairs], test: Bootstrap | None, before: Tensor):
    """Return the rows of one training."""
    torch.manual_seed(seed)
    module = segmenter()
    module.load_state_dict(start.state_dict())
    train(module, known[0], RECIPES[name], seed)
    threshold, value = chosen_threshold(module, known[1])
    label = name if seed == 0 else f"{name}, seed {seed}"
    if test is None:
        print(f"  {label}: {100 * value:.1f}", flush=True)
        return {label: torch.tensor([value])}
    values = test.values(module, threshold)
    other = test.values(module, threshold, mismatched(test.pairs))
    return {label: values, f"{label}, less the start": values - before, f"{label}, mismatched support": other}


if __name__ == "__main__":
    main()
