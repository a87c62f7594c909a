"""RepMet's classifier and its baselines on cached features of a frozen efficientnet_lite0.

    FEWSHOT_DATA=/data python studies/repmet_classification.py closed cub
    FEWSHOT_DATA=/data python studies/repmet_classification.py closed grocery
    FEWSHOT_DATA=/data python studies/repmet_classification.py episodes cub
    FEWSHOT_DATA=/data python studies/repmet_classification.py episodes miniimagenet

Each method's learning rate is chosen on the validation part with seed 0; then it trains with three seeds and is tested
once. Differences are paired over images (closed set) or over episodes. Each method is kept in a JSON file when it is
done, and not computed again; methods may be named: ``closed cub "RepMet K=3,softmax"``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from classification_features import DATA, features_of
from torch import Tensor, nn

import datamodules
from datamodules.classification.catalog import ClassCatalog
from datamodules.classification.settings import ClassSplits
from datamodules.classification.training import ClassBatch, TaskTraining
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
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.accuracy import correct_predictions
from lightning_fewshot.models.repmet.classifier_settings import ClassMixture
from lightning_fewshot.sampling import EpisodePlan, EpisodeSampler, episode_rng
from lightning_fewshot.settings import BackboneSettings, Optimization

STEPS, SEEDS, N_EPISODES, N_VAL = 200, (0, 1, 2), 600, 50
RATES = (1e-3, 3e-3)
HEAD = EmbeddingHead((512,), 256)
BACKBONE = BackboneSettings("efficientnet_lite0")  # gives the width; its place is taken by the cached features
SPLITS = {"closed": ClassSplits("closed", val_images=2 / 22, test_images=7 / 22), "episodes": ClassSplits()}
Make = Callable[[Optimization], ClassifierModule]
Test = Callable[[ClassifierModule], Tensor]


def repmet(n_modes: int) -> Make:
    """Return what makes RepMet with K modes."""
    return lambda o: RepMetClassifier(BACKBONE, HEAD, ClassMixture(n_modes=n_modes), o)


METHODS: dict[str, Make] = {
    "RepMet K=3": repmet(3),
    "RepMet K=1": repmet(1),
    "softmax": lambda o: SoftmaxClassifier(BACKBONE, HEAD, o),
    "triplet": lambda o: TripletClassifier(BACKBONE, HEAD, optimization=o),
    "Magnet": lambda o: MagnetClassifier(BACKBONE, HEAD, optimization=o),
    "SoftTriple": lambda o: ProxyClassifier(BACKBONE, HEAD, optimization=o),
    "prototypical network": lambda o: PrototypicalNetwork(BACKBONE, HEAD, o),
    "class means of the features": lambda o: PrototypeClassifier(BACKBONE),
}


class Cached:
    """Features in place of images, sorted into a data set's splits."""

    def __init__(self, name: str, task: str) -> None:
        kept = features_of(name)
        data = getattr(datamodules, DATA[name][0])(splits=SPLITS[task])
        number = {image: i for i, image in enumerate(kept["names"])}
        images = [image for image in data.list_images() if image.name in number]
        self.features = kept["features"][[number[image.name] for image in images]]
        self.catalog = ClassCatalog(images, SPLITS[task], seed=0, class_parts=data.class_parts())

    def classes(self) -> tuple[str, ...]:
        """Return the training classes."""
        return self.catalog.split_classes["train"]

    def batch(self, split: str) -> Episode:
        """Return all images of a split as one batch of a closed set."""
        items = self.catalog.items[split]
        numbers = [n for name in self.classes() for n in items[name]]
        labels = [label for label, name in enumerate(self.classes()) for _ in items[name]]
        return Episode(None, Examples(self.features[numbers], torch.tensor(labels)), self.classes(), protocol="batch")

    def training_episode(self, on_tasks: bool, seed: int, index: int) -> Episode:
        """Return a batch of 12 classes with 4 images each, or a task of about as many."""
        training = TaskTraining(8, 3, 3) if on_tasks else ClassBatch()
        plan = training.plan(self.catalog.items["train"], seed, index, episode_rng(seed, "train", index))
        if on_tasks:
            return self.task(plan)
        order = {name: label for label, name in enumerate(self.classes())}
        labels = torch.tensor([order[name] for name, row in zip(plan.classes, plan.query, strict=True) for _ in row])
        return Episode(None, Examples(self._rows(plan.query), labels), self.classes(), index, protocol="batch")

    def task(self, plan) -> Episode:
        """Return the task of a plan."""
        parts = [Examples(self._rows(rows), _labels(rows)) for rows in (plan.support, plan.query)]
        return Episode(parts[0], parts[1], plan.classes)

    def plans(self, split: str, k_shot: int, count: int) -> list[EpisodePlan]:
        """Return the plans of 5-way tasks with 15 queries a class, the same for every method."""
        sampler = EpisodeSampler(self.catalog.items[split], 5, k_shot, 15, seed=0, split=split)
        return [sampler[i] for i in range(count)]

    def _rows(self, rows) -> Tensor:
        return self.features[[number for row in rows for number in row]]


def _labels(rows) -> Tensor:
    return torch.tensor([label for label, row in enumerate(rows) for _ in row])


def train(method: str, data: Cached, lr: float, seed: int) -> ClassifierModule:
    """Train the head of a method on cached features."""
    torch.manual_seed(seed)
    model = METHODS[method](Optimization("AdamW", lr=lr, weight_decay=1e-2))
    model.encoder = nn.Identity()
    model.set_classes(data.classes())
    if method in ("class means of the features",):
        return model.eval()
    optimizer = model.optimization.make_optimizer(model.parameter_groups())
    schedule = model.optimization.make_schedule(optimizer, STEPS)
    on_tasks = isinstance(model, PrototypicalNetwork)
    model.train()
    for step in range(STEPS):
        if isinstance(model, MagnetClassifier) and step % model.refresh == 0:
            model.index_classes([data.batch("train")])
        loss = torch.stack(list(model.loss(data.training_episode(on_tasks, seed, step)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def closed_set(model: ClassifierModule, data: Cached, split: str) -> Tensor:
    """Return whether each image of a split is classified right, ``(Q,)``."""
    if model.keeps_training_classes:
        model.index_classes([data.batch("train")])
    batch = data.batch(split)
    return correct_predictions(model(batch), batch.query.labels)


@torch.no_grad()
def in_episodes(model: ClassifierModule, data: Cached, plans: list[EpisodePlan]) -> Tensor:
    """Return the accuracy of each task, ``(E,)``; every image is embedded once."""
    embedded, accuracies = model.embed(data.features), []
    for plan in plans:
        support, query = ([number for row in rows for number in row] for rows in (plan.support, plan.query))
        state = model.modes_of(embedded[support], _labels(plan.support))
        accuracies.append(correct_predictions(model.scores(state, embedded[query]), _labels(plan.query)).mean())
    return torch.stack(accuracies)


def half(values: Tensor) -> float:
    """Return half of the 95 % interval of a mean."""
    return 1.96 * float(values.std()) / math.sqrt(len(values))


def measure(method: str, data: Cached, validate: Test, tests: dict[str, Test]) -> dict:
    """Return a method's learning rate and, of each test, its values over images or episodes, a row a seed."""
    trained = not method.startswith("class means")
    first = {lr: train(method, data, lr, SEEDS[0]) for lr in (RATES if trained else RATES[:1])}
    rate = max(first, key=lambda lr: float(validate(first[lr]).mean()))
    models = [first[rate], *(train(method, data, rate, seed) for seed in (SEEDS[1:] if trained else ()))]
    return {"lr": rate, **{name: [test(model).tolist() for model in models] for name, test in tests.items()}}


def table(title: str, results: dict, test: str, error: bool) -> str:
    """Return one table: value, interval, seeds, difference of the first method, all in percent."""
    lines = [f"### {title}", "", "| method | % | seeds | first row minus it, paired | learning rate |"]
    lines.append("|---|---:|---|---:|---:|")
    runs = {m: torch.tensor(row[test]).double() for m, row in results.items()}
    runs = {m: 100 * (1 - values if error else values) for m, values in runs.items()}
    first = next(iter(runs))  # RepMet, where it is done
    reference = runs[first].mean(dim=0)
    for method, values in runs.items():
        mean, difference = values.mean(dim=0), reference - values.mean(dim=0)
        paired = "" if method == first else f"{float(difference.mean()):+.1f} ± {half(difference):.1f}"
        seeds = ", ".join(f"{value:.1f}" for value in values.mean(dim=1).tolist())
        value = f"{float(mean.mean()):.1f} ± {half(mean):.1f}"
        lines.append(f"| {method} | {value} | {seeds} | {paired} | {results[method]['lr']:g} |")
    return "\n".join(lines)


def main(task: str, name: str, chosen: str = "") -> None:
    """Measure one task on one data set; of the chosen methods, or of all. What a file holds is not computed again."""
    data, folder = Cached(name, task), Path(f"runs/studies/repmet_classification/{task}_{name}")
    folder.mkdir(parents=True, exist_ok=True)
    if task == "closed":
        left_out = {"prototypical network"}
        validate, tests = (
            partial(closed_set, data=data, split="val"),
            {"closed": partial(closed_set, data=data, split="test")},
        )
    else:
        left_out = {"triplet", "Magnet", "SoftTriple", "softmax", "RepMet K=1"}
        validate = partial(in_episodes, data=data, plans=data.plans("val", 1, N_VAL))
        tests = {f"{k}": partial(in_episodes, data=data, plans=data.plans("test", k, N_EPISODES)) for k in (1, 5)}
    methods = [method for method in METHODS if method not in left_out]
    for method in chosen.split(",") if chosen else methods:
        path = folder / f"{method}.json"
        if not path.is_file():
            path.write_text(json.dumps(measure(method, data, validate, tests)))
        print(method, file=sys.stderr, flush=True)
    files = {method: folder / f"{method}.json" for method in methods}
    results = {method: json.loads(path.read_text()) for method, path in files.items() if path.is_file()}
    for test in tests:
        if task == "closed":
            count = len(data.batch("test").query.labels)
            title = f"{name}, closed set: error, {count} images of {len(data.classes())} classes"
        else:
            title = f"{name}, 5-way {test}-shot on novel classes: accuracy, {N_EPISODES} episodes"
        print(table(title, results, test, error=task == "closed"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("closed", "episodes"))
    parser.add_argument("data", choices=sorted(DATA))
    parser.add_argument("methods", nargs="?", default="", help="names with commas between them; none: all")
    options = parser.parse_args()
    main(options.task, options.data, options.methods)
