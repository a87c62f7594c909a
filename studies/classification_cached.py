"""Cached features in place of images: batches and tasks to train heads on, and the parts that choose and test them.

Used by repmet_classification.py. Shapes: n images, V views, F features, Q query images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from classification_features import DATA, features_of, views_of
from torch import Tensor

import datamodules
from datamodules.classification.catalog import ClassCatalog, ClassImage
from datamodules.classification.settings import ClassSplits
from datamodules.classification.training import ClassTraining, ClusterBatch
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.sampling import Clusters, EpisodePlan, EpisodeSampler, episode_rng

# CUB: 15 photos of a species to train on, 5 of them to choose with, and 7 to test on; GroceryStore has its own lists
CLOSED = {"cub": ClassSplits("closed", val_images=5 / 22, test_images=7 / 22), "grocery": ClassSplits("closed")}
GROUP = 5  # species of a class of "random5"
MERGED = ("", "families", "random5")


class Cached:
    """Features sorted into a data set's splits.

    Args:
        name: Data set.
        closed: Hold out images of all classes; else classes, for episodes.
        merged: "families" takes the kinds that the data set's own names give (warbler; coarse groceries), "random5"
            five classes at random, as one; the held-out images stay the same. "" leaves the classes as they are.
        views: Train on random views too.
    """

    def __init__(self, name: str, closed: bool, merged: str = "", views: bool = False) -> None:
        kept = features_of(name)
        splits = CLOSED[name] if closed else ClassSplits()
        data = getattr(datamodules, DATA[name][0])(splits=splits)
        number = {image: i for i, image in enumerate(kept["names"])}
        images = [image for image in data.list_images() if image.name in number]
        rows = [number[image.name] for image in images]
        catalog = ClassCatalog(images, splits, seed=0, class_parts=data.class_parts())
        if merged:
            catalog = ClassCatalog(_merged(catalog, data, merged), splits, seed=0)
        self.features = kept["features"][rows]
        self.shown = torch.cat([self.features[None], views_of(name)[:, rows]]) if views else self.features[None]
        self.items = dict(catalog.items)
        self.items["both"] = {
            label: self.items["train"][label] + self.items["val"].get(label, []) for label in self.items["train"]
        }
        self.closed = closed
        self.classes = catalog.split_classes["train"]
        self.clusters: Clusters | None = None  # of the images of batch("train"), for training that follows the model

    def batch(self, split: str) -> Episode:
        """Return all images of a split as one batch of a closed set."""
        items = self.items[split]
        numbers = [number for name in self.classes for number in items[name]]
        labels = [label for label, name in enumerate(self.classes) for _ in items[name]]
        return Episode(None, Examples(self.features[numbers], torch.tensor(labels)), self.classes, protocol="batch")

    def training_episode(self, training: ClassTraining, split: str, seed: int, index: int) -> Episode:
        """Return a batch of classes, or a task, each image in one of its views."""
        rng = episode_rng(seed, split, index)
        if self.clusters is not None and isinstance(training, ClusterBatch):
            images = [(number, name) for name in self.classes for number in self.items[split][name]]
            plan = training.plan_of(self.clusters, images, rng)
        else:
            plan = training.plan(self.items[split], seed, index, rng)
        if plan.support:
            parts = [Examples(self._rows(rows, rng), labels_of(rows)) for rows in (plan.support, plan.query)]
            return Episode(parts[0], parts[1], plan.classes)
        order = {name: label for label, name in enumerate(self.classes)}
        labels = torch.tensor([order[name] for name, row in zip(plan.classes, plan.query, strict=True) for _ in row])
        return Episode(None, Examples(self._rows(plan.query, rng), labels), self.classes, index, protocol="batch")

    def plans(self, split: str, n_way: int, k_shot: int, n_query: int, count: int) -> list[EpisodePlan]:
        """Return the plans of tasks, the same for every method."""
        sampler = EpisodeSampler(self.items[split], n_way, k_shot, n_query, seed=0, split=split)
        return [sampler[i] for i in range(count)]

    def strangers(self, split: str, plan: EpisodePlan, index: int, count: int) -> list[int]:
        """Draw images of the split's other classes."""
        others = [n for name, row in self.items[split].items() if name not in plan.classes for n in row]
        return [others[i] for i in episode_rng(0, split, index, "open").choice(len(others), count, replace=False)]

    def _rows(self, rows: Sequence[Sequence[int]], rng: np.random.Generator) -> Tensor:
        numbers = [number for row in rows for number in row]
        return self.shown[rng.integers(len(self.shown), size=len(numbers)), numbers]


def labels_of(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return the class of each image of a plan's rows."""
    return torch.tensor([label for label, row in enumerate(rows) for _ in row])


def _merged(catalog: ClassCatalog, data: object, merged: str) -> list[ClassImage]:
    """Return the images with the name of their group, each in the part that it had."""
    part_of = {n: part for part, items in catalog.items.items() for row in items.values() for n in row}
    group = groups_of(catalog.names, data, merged)
    return [
        image._replace(label=group[image.label], part=part_of[number]) for number, image in enumerate(catalog.images)
    ]


def groups_of(names: Sequence[str], data: object, merged: str) -> dict[str, str]:
    """Return the group of each class."""
    if merged == "random5":
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
        return {names[name]: f"group {place // GROUP:02d}" for place, name in enumerate(order)}
    if isinstance(data, datamodules.Grocery):
        coarse = datamodules.Grocery(level="coarse", splits=data.splits).list_images()
        return {fine.label: image.label for fine, image in zip(data.list_images(), coarse, strict=True)}
    return {name: name.rpartition("_")[2] for name in names}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=sorted(CLOSED))
    parser.add_argument("--merged", choices=MERGED, default="")
    options = parser.parse_args()
    cached = Cached(options.data, closed=True, merged=options.merged)
    for part_name, part_items in cached.items.items():
        print(part_name, len(part_items), "classes", sum(map(len, part_items.values())), "images")
