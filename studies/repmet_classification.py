"""RepMet's classifier and its baselines on cached features of a frozen efficientnet_lite0.

    FEWSHOT_DATA=/data python studies/repmet_classification.py closed cub
    FEWSHOT_DATA=/data python studies/repmet_classification.py closed grocery
    FEWSHOT_DATA=/data python studies/repmet_classification.py episodes cub
    FEWSHOT_DATA=/data python studies/repmet_classification.py episodes miniimagenet

Each method's learning rate is chosen on the validation part with seed 0; then it trains with three seeds and is tested
once. Differences are paired over images (closed set) or over episodes. Prints tables; a JSON file keeps what they hold.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
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
from lightning_fewshot.sampling import EpisodeSampler, episode_rng
from lightning_fewshot.settings import BackboneSettings, Optimization

STEPS, SEEDS, N_EPISODES, N_VAL = 300, (0, 1, 2), 600, 50
RATES = (1e-3, 3e-3)
HEAD = EmbeddingHead((512,), 256)
BACKBONE = BackboneSettings("efficientnet_lite0")  # gives the width; its place is taken by the cached features
SPLITS = {"closed": ClassSplits("closed", val_images=2 / 22, test_images=7 / 22), "episodes": ClassSplits()}
Make = Callable[[Optimization], ClassifierModule]


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

    def tasks(self, split: str, k_shot: int, count: int) -> list[Episode]:
        """Return 5-way tasks with 15 queries a class, the same for every method."""
        sampler = EpisodeSampler(self.catalog.items[split], 5, k_shot, 15, seed=0, split=split)
        return [self.task(sampler[i]) for i in range(count)]

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
def in_episodes(model: ClassifierModule, tasks: list[Episode]) -> Tensor:
    """Return the accuracy of each task, ``(E,)``."""
    return torch.stack([correct_predictions(model(task), task.query.labels).mean() for task in tasks])


def chosen_rate(method: str, data: Cached, evaluate: Callable[[ClassifierModule], Tensor]) -> float:
    """Return the learning rate that is best on the validation part, seed 0."""
    if method == "class means of the features":
        return RATES[0]
    return max(RATES, key=lambda lr: float(evaluate(train(method, data, lr, 0)).mean()))


def half(values: Tensor) -> float:
    """Return half of the 95 % interval of a mean."""
    return 1.96 * float(values.std()) / math.sqrt(len(values))


def measure(methods: list[str], data: Cached, validate, tests: dict[str, Callable]) -> dict:
    """Return, of each test, every method's values over images or episodes (mean over seeds), and learning rates."""
    results: dict = {name: {} for name in tests}
    for method in methods:
        start, rate = time.time(), chosen_rate(method, data, validate)
        models = [train(method, data, rate, seed) for seed in (SEEDS if "means" not in method else SEEDS[:1])]
        for name, test in tests.items():
            runs = torch.stack([test(model) for model in models])
            results[name][method] = {"lr": rate, "values": runs.mean(dim=0), "seeds": runs.mean(dim=1).tolist()}
        print(f"{method}: lr {rate:g}, {time.time() - start:.0f} s", file=sys.stderr, flush=True)
    return results


def table(title: str, rows: dict, first: str, error: bool) -> str:
    """Return one table: value, interval, seeds, difference to the first method, all in percent."""
    lines = [
        f"### {title}",
        "",
        "| method | % | seeds | RepMet K=3 minus it, paired | learning rate |",
        "|---|---|---|---|---|",
    ]
    sign = -1 if error else 1
    for method, row in rows.items():
        values = 1 - row["values"] if error else row["values"]
        difference = sign * (rows[first]["values"] - row["values"])
        paired = "" if method == first else f"{100 * float(difference.mean()):+.1f} ± {100 * half(difference):.1f}"
        seeds = ", ".join(f"{100 * ((1 - s) if error else s):.1f}" for s in row["seeds"])
        mean = f"{100 * float(values.mean()):.1f} ± {100 * half(values):.1f}"
        lines.append(f"| {method} | {mean} | {seeds} | {paired} | {row['lr']:g} |")
    return "\n".join(lines)


def main(task: str, name: str) -> None:
    """Measure one task on one data set."""
    data, methods = Cached(name, task), list(METHODS)
    if task == "closed":
        methods.remove("prototypical network")
        results = measure(
            methods, data, lambda m: closed_set(m, data, "val"), {"closed": lambda m: closed_set(m, data, "test")}
        )
        count, chance = len(data.batch("test").query.labels), 100 * (1 - 1 / len(data.classes()))
        print(
            table(
                f"{name}, closed set: error, {count} images, chance {chance:.1f}", results["closed"], methods[0], True
            )
        )
    else:
        methods = ["RepMet K=3", "prototypical network", "class means of the features"]
        val = data.tasks("val", 1, N_VAL)
        tasks = {k: data.tasks("test", k, N_EPISODES) for k in (1, 5)}
        tests = {f"{k}": (lambda m, k=k: in_episodes(m, tasks[k])) for k in tasks}
        results = measure(methods, data, lambda m: in_episodes(m, val), tests)
        for k in tasks:
            title = f"{name}, 5-way {k}-shot on novel classes: accuracy, {N_EPISODES} episodes, chance 20.0"
            print(table(title, results[str(k)], methods[0], False))
    plain = {t: {m: {**r, "values": r["values"].tolist()} for m, r in rows.items()} for t, rows in results.items()}
    path = Path(f"runs/studies/repmet_classification_{task}_{name}.json")
    path.write_text(json.dumps(plain))


if __name__ == "__main__":
    main(*sys.argv[1:])
