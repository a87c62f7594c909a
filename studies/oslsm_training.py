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
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from oslsm_bench.baselines import fine_tuning, logistic, nearest_neighbours, untrained_prototypes
from oslsm_bench.pairs import VIEWS, Cache, Pairs, segmenter
from oslsm_bench.recipes import RECIPES, Recipe, calibrate, oslsm, train
from oslsm_bench.rows import (
    TRIVIAL,
    Bootstrap,
    Method,
    Questions,
    cell,
    chosen_threshold,
    mean_of,
    mismatched,
    with_shots,
)
from oslsm_bench.siamese import STEPS, siamese
from oslsm_sets import BATCH, NAMES, set_of
from torch import Tensor

from lightning_fewshot.models.oslsm import OSLSMSegmenter

BASELINES = ("untrained prototypes", "1-NN", "logistic regression", "fine-tuning", "siamese network")


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


def asked(method: Method, known: Known, test: Bootstrap, shots: int, *, other: bool = False) -> tuple[Tensor, ...]:
    """Return the measure of the test ``(1 + R,)``; with ``other`` that with the supports of other classes too."""
    threshold, _ = chosen_threshold(method, with_shots(known.val, shots))
    questions = with_shots(known.test, shots)
    asked = (questions, mismatched(questions)) if other else (questions,)
    return tuple(test.values(method, threshold, part) for part in asked)


def with_best_threshold(method: Method, known: Known, test: Bootstrap, shots: int) -> Tensor:
    """Return the measure with the threshold that is best in the test itself: what no choice can exceed."""
    questions = with_shots(known.test, shots)
    return test.values(method, chosen_threshold(method, questions)[0], questions)


def tested(known: Known, options: argparse.Namespace, view: str, test: Bootstrap) -> dict[str, Tensor]:
    """Return the rows of OSLSM in one view: start and every seed, their differences, with another class's support."""
    rows: dict[str, Tensor] = {}
    recipe = recipe_of(options.test, options)
    models = {"start": known.start}
    models |= {f"trained, seed {seed}": trained(known, recipe, seed) for seed in range(options.seeds)}
    for shots in sorted({1, options.shots}):
        label = f"{view}, {named(shots)}"
        for name, module in models.items():
            row = f"{label}, {name}"
            rows[row], rows[f"{row}, mismatched support"] = asked(oslsm(module), known, test, shots, other=True)
            print(f"  {row}: {cell(rows[row])}", flush=True)
            if options.oracle:
                rows[f"{row}, best threshold"] = with_best_threshold(oslsm(module), known, test, shots)
            if name != "start":
                rows[f"{row}, less the start"] = rows[row] - rows[f"{label}, start"]
            if shots > 1:
                rows[f"{row}, less 1 shot"] = rows[row] - rows[f"{view}, 1 shot, {name}"]
    return rows


def named(shots: int) -> str:
    """Return a number of shots in words.

    >>> named(1), named(5)
    ('1 shot', '5 shots')
    """
    return f"{shots} shot{'s' * (shots > 1)}"


def methods_of(known: Known, cache: Cache, options: argparse.Namespace) -> dict[str, Method]:
    """Return the baselines by name; the siamese network is trained."""
    branch, steps = known.start.segmentation, options.steps or STEPS
    made = {
        "untrained prototypes": lambda: untrained_prototypes(branch),
        "1-NN": lambda: nearest_neighbours(branch),
        "logistic regression": lambda: logistic(branch),
        "fine-tuning": lambda: fine_tuning(branch),
        "siamese network": lambda: siamese(branch, known.train, cache.supports("train", known.start), steps=steps),
    }
    return {name: made[name]() for name in options.baselines}


def compared(
    known: Known, methods: dict[str, Method], ours: Tensor, shots: int, test: Bootstrap, *, oracle: bool
) -> dict[str, Tensor]:
    """Return the rows of the baselines with as many shots, and what trained OSLSM has more."""
    rows: dict[str, Tensor] = {}
    for name, method in methods.items():
        found = asked(method, known, test, shots, other=name == "untrained prototypes")
        rows |= dict(zip((name, f"{name}, mismatched support"), found, strict=False))
        print(f"  {named(shots)}, {name}: {cell(rows[name])}", flush=True)
        if oracle:
            rows[f"{name}, best threshold"] = with_best_threshold(method, known, test, shots)
    rows |= {name: test.values(method, questions=with_shots(known.test, shots)) for name, method in TRIVIAL.items()}
    differences = {f"trained, seed 0, less {name}": ours - rows[name] for name in (*methods, *TRIVIAL)}
    return {f"{named(shots)}, {name}": values for name, values in (rows | differences).items()}


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
            methods = methods_of(known, cache, options)
            for shots in sorted({1, options.shots}):
                ours = rows[f"{view}, {named(shots)}, trained, seed 0"]
                rows |= compared(known, methods, ours, shots, test, oracle=options.oracle)
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
    parser.add_argument("--baselines", nargs="*", default=list(BASELINES[:3]), choices=BASELINES)
    parser.add_argument("--stride", type=int, default=16, choices=(8, 16), help="of the feature maps")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--steps", type=int, help="of training, in place of those of recipe and siamese network")
    parser.add_argument("--seeds", type=int, default=1, help="of training")
    parser.add_argument("--oracle", action="store_true", help="also rows with the threshold that is best in the test")
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
