"""Does training add to what OSLSM starts from? Its last layers, trained on cached features of frozen backbones.

    FEWSHOT_DATA=/data python studies/oslsm_training.py CACHE pascal1                                   # validation
    FEWSHOT_DATA=/data python studies/oslsm_training.py CACHE pascal1 pascal2 pascal3 --test "phi and g"    # test, once
    FEWSHOT_DATA=/data python studies/oslsm_training.py CACHE davis --test "phi and g" --conditioning pooled masked

Sets are those of studies/oslsm_sets.py. CACHE is a folder: what is in it is not computed again. What fc6 sees of a
query photo, and what g's last layer sees of a support, are computed once; phi's last convolution and g's last layer
then train for seconds. A recipe says how fast each moves and what is minimised. Every recipe sees the same pairs; a
seed gives their order. Training has one shot. With --shots the (w, b) of all shots are averaged, and one shot is the
first of them, so that both are asked the same. Differences are paired: both sides have the same resamples.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from oslsm_baselines import logistic, nearest_neighbours, untrained_prototypes
from oslsm_pairs import VIEWS, Cache, Pairs, part_of, segmenter
from oslsm_rows import TRIVIAL, Bootstrap, Method, Questions, cell, chosen_threshold, mean_of, mismatched, with_shots
from oslsm_sets import BATCH, NAMES, set_of
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


class Known(NamedTuple):
    """What is known of a set in one view of the supports; ``test`` is None where only validation is asked."""

    start: OSLSMSegmenter
    train: Pairs
    val: Questions
    test: Questions | None


def known_of(cache: Cache, view: str, tested: bool) -> Known:
    """Read a set from its cache, and calibrate what every recipe starts from."""
    torch.manual_seed(0)
    pooled, start = segmenter("pooled", cache.stride).eval(), segmenter(view, cache.stride).eval()
    parts = {}
    for split in ("train", "val", "test") if tested else ("train", "val"):
        pairs = cache.pairs(split, pooled)
        if view != "pooled" or (cache.shots > 1 and split != "train"):
            seen = cache.seen(split, view)
            pairs = pairs._replace(seen=seen[:, 0] if split == "train" else seen)
        supports = cache.supports(split, pooled) if tested and split != "train" else None
        parts[split] = Questions(pairs, supports)
    calibrate(start, parts["train"].pairs)
    return Known(start, parts["train"].pairs, parts["val"], parts.get("test"))


def trained(known: Known, recipe: Recipe, seed: int) -> OSLSMSegmenter:
    """Return a model that a recipe has trained."""
    torch.manual_seed(seed)
    module = copy.deepcopy(known.start)
    train(module, known.train, recipe, seed)
    return module


def recipe_of(name: str, options: argparse.Namespace) -> Recipe:
    """Return a recipe, with another number of steps where one is asked for."""
    recipe = RECIPES[name]
    return recipe if options.steps is None else replace(recipe, steps=options.steps)


def validated(known: Known, options: argparse.Namespace) -> dict[str, Tensor]:
    """Return mean IoU on validation pairs, ``(1,)``, of the start and of every recipe."""
    rows = {"start": chosen_threshold(oslsm(known.start), known.val)[1]}
    for name in options.recipes:
        rows[name] = chosen_threshold(oslsm(trained(known, recipe_of(name, options), 0)), known.val)[1]
        print(f"  {name}: {100 * rows[name]:.1f}", flush=True)
    return {name: torch.tensor([value]) for name, value in rows.items()}


def asked(method: Method, known: Known, test: Bootstrap, shots: int) -> tuple[Tensor, Tensor]:
    """Return the measure of the test under each resample ``(1 + R,)``, and that with supports of another class."""
    threshold, _ = chosen_threshold(method, with_shots(known.val, shots))
    questions = with_shots(known.test, shots)
    values = [test.values(method, threshold, part) for part in (questions, mismatched(questions))]
    return values[0], values[1]


def tested(known: Known, options: argparse.Namespace, view: str, test: Bootstrap) -> dict[str, Tensor]:
    """Return the rows of OSLSM in one view: start and every seed, their differences, with another class's support."""
    rows: dict[str, Tensor] = {}
    models = {"start": known.start}
    models |= {
        f"trained, seed {seed}": trained(known, recipe_of(options.test, options), seed) for seed in range(options.seeds)
    }
    for shots in sorted({1, options.shots}):
        label = f"{view}, {shots} shot{'s' * (shots > 1)}"
        for name, module in models.items():
            row = f"{label}, {name}"
            rows[row], rows[f"{row}, mismatched support"] = asked(oslsm(module), known, test, shots)
            print(f"  {row}: {cell(rows[row])}", flush=True)
            if name != "start":
                rows[f"{row}, less the start"] = rows[row] - rows[f"{label}, start"]
            if shots > 1:
                rows[f"{row}, less 1 shot"] = rows[row] - rows[f"{view}, 1 shot, {name}"]
    return rows


def compared(known: Known, ours: Tensor, shots: int, test: Bootstrap) -> dict[str, Tensor]:
    """Return the rows of the baselines with as many shots, and what trained OSLSM has more."""
    branch = known.start.segmentation
    methods = {
        "untrained prototypes": untrained_prototypes(branch),
        "1-NN": nearest_neighbours(branch),
        "logistic regression": logistic(branch),
    }
    rows: dict[str, Tensor] = {}
    for name, method in methods.items():
        rows[name], rows[f"{name}, mismatched support"] = asked(method, known, test, shots)
    rows |= {name: test.values(method, questions=with_shots(known.test, shots)) for name, method in TRIVIAL.items()}
    differences = {f"trained, seed 0, less {name}": ours - rows[name] for name in (*methods, *TRIVIAL)}
    return {f"{shots} shot{'s' * (shots > 1)}, {name}": values for name, values in (rows | differences).items()}


def measured(name: str, options: argparse.Namespace) -> dict[str, Tensor]:
    """Return every row of a set: mean IoU (J of videos), ``(1,)`` in validation and ``(1 + R,)`` in the test."""
    sizes = {"shots": options.shots, "validation": options.validation, "queries": options.queries}
    cached = {"batches": options.batches, "shots": options.shots, "stride": options.stride}
    cache = Cache(options.cache, name, set_of(name, **sizes), **cached)
    rows: dict[str, Tensor] = {}
    for view in options.conditioning:
        known = known_of(cache, view, bool(options.test))
        if not options.test:
            rows |= {f"{view}, {row}": value for row, value in validated(known, options).items()}
            continue
        test = Bootstrap(known.test, video=name == "davis")
        print(f"{name}: {len(test.classes)} pairs, {test.n_groups} query images or sequences", flush=True)
        rows |= tested(known, options, view, test)
        if view == options.conditioning[0]:
            for shots in sorted({1, options.shots}):
                ours = rows[f"{view}, {shots} shot{'s' * (shots > 1)}, trained, seed 0"]
                rows |= compared(known, ours, shots, test)
    return rows


def main() -> None:
    """Print the rows of validation, or of the test for one recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path, help="folder of what was computed before")
    parser.add_argument("sets", nargs="+", choices=NAMES)
    parser.add_argument("--batches", type=int, default=150, help=f"training batches of {BATCH} pairs, computed once")
    parser.add_argument("--validation", type=int, default=150, help="validation pairs at most")
    parser.add_argument("--queries", type=int, default=1000, help="test pairs of a set at most")
    parser.add_argument("--shots", type=int, default=1, help="of the test, beside one")
    parser.add_argument("--conditioning", nargs="+", default=["pooled"], choices=list(VIEWS), help="what g sees")
    parser.add_argument("--stride", type=int, default=16, choices=(8, 16), help="of the feature maps")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--steps", type=int, help="of training, in place of the recipe's")
    parser.add_argument("--seeds", type=int, default=1, help="of training")
    parser.add_argument("--test", choices=list(RECIPES), help="ask the novel classes, with this recipe and the start")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: dict[str, list[Tensor]] = {}
    for name in options.sets:
        began = time.monotonic()
        for row, values in measured(name, options).items():
            rows.setdefault(row, []).append(values)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    print(f"| method | {' | '.join(options.sets)} | mean |\n|---|{'---:|' * (len(options.sets) + 1)}")
    for row, sets in rows.items():
        print(f"| {row} | {' | '.join(map(cell, sets))} | {mean_of(sets)} |", flush=True)


if __name__ == "__main__":
    main()
