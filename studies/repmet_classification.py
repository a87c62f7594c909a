"""RepMet's classifier and its baselines on cached features of a frozen efficientnet_lite0.

    FEWSHOT_DATA=/data python studies/repmet_classification.py closed cub|grocery [--recipe plain|views|wide]
    FEWSHOT_DATA=/data python studies/repmet_classification.py closed cub|grocery --merged families|random5
    FEWSHOT_DATA=/data python studies/repmet_classification.py episodes cub|miniimagenet

What a recipe leaves open of a method is chosen on validation images (closed set) or validation classes (episodes) with
seed 0; a closed set is then trained on training and validation images together. Three seeds are tested once, and
differences are paired over images or episodes. A method is kept in a JSON file when it is done, and not computed again;
methods may be named: ``--methods "RepMet K=3,softmax"``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from classification_cached import MERGED, Cached, labels_of
from classification_features import DATA
from classification_tables import tables
from torch import Tensor, nn

from datamodules.classification.training import ClassBatch, ClassTraining, ClusterBatch, TaskTraining
from lightning_fewshot import (
    MagnetClassifier,
    PrototypeClassifier,
    PrototypicalNetwork,
    ProxyClassifier,
    RepMetClassifier,
    SoftmaxClassifier,
    TripletClassifier,
)
from lightning_fewshot.classification.module import ClassifierModule
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.metrics.accuracy import auroc, correct_predictions
from lightning_fewshot.models.repmet.classifier_settings import ClassMixture
from lightning_fewshot.sampling import EpisodePlan
from lightning_fewshot.settings import BackboneSettings, Optimization

SEEDS, N_EPISODES, N_VAL, N_QUERY = (0, 1, 2), 600, 100, 15
BACKBONE = BackboneSettings("efficientnet_lite0")  # gives the width; its place is taken by the cached features
NARROW, WIDE = EmbeddingHead((512,), 256), EmbeddingHead((2048,), 1024)  # the second is the paper's
BATCHES = ClassBatch()  # the paper's: 12 classes with 4 images each
FOLDER = Path("runs/studies/repmet_classification")
Evaluate = Callable[[ClassifierModule], dict[str, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How heads are trained.

    Args:
        head: Their layers.
        steps: Of AdamW with a cosine.
        views: Train on random views of the images, not on the middle alone.
        rates: Learning rates to choose from.
        tuned: Choose each method's own setting too, else it keeps its default.
    """

    head: EmbeddingHead = NARROW
    steps: int = 600
    views: bool = True
    rates: tuple[float, ...] = (1e-3, 3e-3)
    tuned: bool = True


RECIPES = {
    "plain": Recipe(steps=200, views=False, tuned=False),
    "views": Recipe(),
    "wide": Recipe(head=WIDE, rates=(1e-3,)),
}


@dataclass(frozen=True)
class Method:
    """One row of a table.

    Args:
        make: From layers, the method's own setting and an optimiser, an untrained model.
        settings: Values of its own setting: the default, then others to choose from.
        training: What a training episode is; None: its own setting says so.
    """

    make: Callable[[EmbeddingHead, Any, Optimization], ClassifierModule]
    settings: tuple[Any, ...] = (None,)
    training: ClassTraining | None = BATCHES


def repmet(n_modes: int) -> Method:
    """Return RepMet with K modes; its own setting is sigma."""
    return Method(
        lambda h, sigma, o: RepMetClassifier(BACKBONE, h, ClassMixture(n_modes, sigma), o), settings=(0.5, 0.3, 0.2)
    )


TASKS = (TaskTraining(8, 3, 3), TaskTraining(8, 1, 5), TaskTraining(16, 1, 2))
METHODS: dict[str, Method] = {
    "RepMet K=3": repmet(3),
    "RepMet K=1": repmet(1),
    "RepMet K=5": repmet(5),
    "softmax": Method(
        lambda h, decay, o: SoftmaxClassifier(BACKBONE, h, replace(o, weight_decay=decay)), (0.01, 0.1, 0.5)
    ),
    "triplet": Method(
        lambda h, margin, o: TripletClassifier(BACKBONE, h, margin=margin, optimization=o), (0.2, 0.1, 0.4)
    ),
    "Magnet": Method(
        lambda h, margin, o: MagnetClassifier(BACKBONE, h, margin=margin, optimization=o),
        (1.0, 0.5, 2.0),
        ClusterBatch(),
    ),
    "SoftTriple": Method(
        lambda h, scale, o: ProxyClassifier(BACKBONE, h, scale=scale, optimization=o), (20.0, 10.0, 5.0)
    ),
    "SoftTriple K=1": Method(
        lambda h, scale, o: ProxyClassifier(BACKBONE, h, n_modes=1, scale=scale, optimization=o), (20.0, 10.0, 5.0)
    ),
    "prototypical network": Method(lambda h, _, o: PrototypicalNetwork(BACKBONE, h, o), TASKS, None),
    "class means of the features": Method(lambda h, _, o: PrototypeClassifier(BACKBONE)),
}
UNTRAINED = "class means of the features"
ONLY_MERGED = ("RepMet K=5", "SoftTriple K=1")  # rows about the number of modes


def train(name: str, data: Cached, recipe: Recipe, lr: float, setting: Any, split: str, seed: int) -> ClassifierModule:
    """Train the head of a method on cached features of a split."""
    torch.manual_seed(seed)
    model = METHODS[name].make(recipe.head, setting, Optimization("AdamW", lr=lr, weight_decay=1e-2))
    for _ in training_steps(model, data, METHODS[name].training or setting, recipe.steps, split, seed):
        pass
    return model.eval()


def training_steps(
    model: ClassifierModule, data: Cached, training: ClassTraining, steps: int, split: str, seed: int
) -> Iterator[int]:
    """Train a model on cached features in place of its encoder; yield the number of steps that are done."""
    model.encoder = nn.Identity()
    model.set_classes(data.classes)
    if not model.needs_training:
        return
    optimizer = model.optimization.make_optimizer(model.parameter_groups())
    schedule = model.optimization.make_schedule(optimizer, steps)
    data.clusters = None
    for step in range(steps):
        if isinstance(model, MagnetClassifier) and step % model.refresh == 0:
            data.clusters = model.find_clusters([data.batch(split)])
        model.train()
        loss = torch.stack(list(model.loss(data.training_episode(training, split, seed, step)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield step + 1
    if data.closed and model.keeps_training_classes:
        model.index_classes([data.batch(split)])


@torch.no_grad()
def closed_set(model: ClassifierModule, data: Cached, split: str) -> dict[str, Tensor]:
    """Return whether each image of a split is classified right, ``(Q,)``."""
    if model.keeps_training_classes and not bool(model.centres_used.any()):  # frozen features
        model.index_classes([data.batch("both")])
    batch = data.batch(split)
    return {"closed": correct_predictions(model(batch), batch.query.labels)}


@torch.no_grad()
def in_episodes(
    model: ClassifierModule, data: Cached, plans: dict[str, list[EpisodePlan]], split: str
) -> dict[str, Tensor]:
    """Return the accuracy of each task and, where images of other classes are left, its AUROC of rejecting them."""
    embedded, rejection = model.embed(data.features), model.build_metrics().rejection
    rows: dict[str, list[Tensor]] = {}
    for test, listed in plans.items():
        for index, plan in enumerate(listed):
            support, query = ([number for row in part for number in row] for part in (plan.support, plan.query))
            state = model.modes_of(embedded[support], labels_of(plan.support))
            scores = model.scores(state, embedded[query])
            rows.setdefault(test, []).append(correct_predictions(scores, labels_of(plan.query)).mean())
            if len(plan.classes) == 5:
                strangers = data.strangers(split, plan, index, N_QUERY)
                unknown = rejection(torch.cat([scores, model.scores(state, embedded[strangers])]))
                is_stranger = torch.arange(len(unknown)) >= len(query)
                rows.setdefault(f"{test}, AUROC", []).append(auroc(unknown, is_stranger))
    return {test: torch.stack(values) for test, values in rows.items()}


def measure(name: str, data: Cached, recipe: Recipe, choose: Callable[[ClassifierModule], float], test: Evaluate):
    """Return what was chosen of a method and, of each test, its values over images or episodes, a row a seed."""
    method = METHODS[name]
    settings = method.settings if recipe.tuned else method.settings[:1]
    grid = list(itertools.product(recipe.rates, settings)) if name != UNTRAINED else [(recipe.rates[0], None)]
    chosen, best = grid[0], -1.0
    for lr, setting in grid if len(grid) > 1 else ():
        value = choose(train(name, data, recipe, lr, setting, "train", SEEDS[0]))
        if value > best:
            chosen, best = (lr, setting), value
    seeds = SEEDS if name != UNTRAINED else SEEDS[:1]
    split = "both" if data.closed else "train"
    results = [test(train(name, data, recipe, *chosen, split, seed)) for seed in seeds]
    return {
        "lr": chosen[0],
        "setting": str(chosen[1]),
        "validation": best,
        **{key: [values[key].tolist() for values in results] for key in results[0]},
    }


def tasks_of(data: Cached) -> dict[str, list[EpisodePlan]]:
    """Return the test tasks: 5- and 20-way, 1 and 5 shots."""
    ways = [(n, k) for n in (5, 20) for k in (1, 5)]
    return {f"{n}-way {k}-shot": data.plans("test", n, k, N_QUERY, N_EPISODES) for n, k in ways}


def evaluations(data: Cached) -> tuple[Callable[[ClassifierModule], float], Evaluate]:
    """Return how a setting is chosen, and the tests."""
    if data.closed:
        return lambda m: float(closed_set(m, data, "val")["closed"].mean()), lambda m: closed_set(m, data, "test")
    val, tests = {"val": data.plans("val", 5, 1, N_QUERY, N_VAL)}, tasks_of(data)
    return lambda m: float(in_episodes(m, data, val, "val")["val"].mean()), lambda m: in_episodes(
        m, data, tests, "test"
    )


def methods_of(closed: bool, merged: str) -> list[str]:
    """Return the rows of a table."""
    left_out = set() if merged else set(ONLY_MERGED)
    return [name for name in METHODS if name not in left_out and not (closed and name == "prototypical network")]


def main(task: str, name: str, merged: str, recipe: str, chosen: str) -> None:
    """Measure one task on one data set. What a file holds is not computed again."""
    folder = FOLDER / "_".join(filter(None, (task, name, merged, recipe)))
    folder.mkdir(parents=True, exist_ok=True)
    data = Cached(name, task == "closed", merged, RECIPES[recipe].views)
    choose, test = evaluations(data)
    names = methods_of(data.closed, merged)
    for method in chosen.split(",") if chosen else names:
        path = folder / f"{method}.json"
        if not path.is_file():
            path.write_text(json.dumps(measure(method, data, RECIPES[recipe], choose, test)))
        print(method, file=sys.stderr, flush=True)
    files = {method: folder / f"{method}.json" for method in names}
    results = {method: json.loads(path.read_text()) for method, path in files.items() if path.is_file()}
    print(tables(", ".join(filter(None, (name, merged, f"recipe {recipe}"))), results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("closed", "episodes"))
    parser.add_argument("data", choices=sorted(DATA))
    parser.add_argument("--merged", choices=MERGED, default="", help="several classes taken as one")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="views")
    parser.add_argument("--methods", default="", help="names with commas between them; none: all")
    options = parser.parse_args()
    main(options.task, options.data, options.merged, options.recipe, options.methods)
