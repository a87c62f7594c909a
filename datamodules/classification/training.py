"""What a training episode of images is: a batch of classes (RepMet, section 4.1), or a few-shot task.

Shapes: M classes of a batch, D images of each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from datamodules.classification.catalog import draw_numbers, warn_of_few
from lightning_fewshot.sampling import Clusters, EpisodeSampler


class TrainingPlan(NamedTuple):
    """Numbers of the images of a training episode, class by class; ``support`` is empty in a batch.

    Args:
        classes: The classes, in the order of support and query.
        support: ``(N, K)``.
        query: ``(N, Q)``.
    """

    classes: tuple[str, ...]
    support: tuple[tuple[int, ...], ...]
    query: tuple[tuple[int, ...], ...]


class ClassTraining(ABC):
    """A kind of training episode: a frozen dataclass of settings, and how an episode is drawn."""

    protocol: str
    follows_model: ClassVar[bool] = False  # whether batches are drawn from clusters that a model finds in training

    @abstractmethod
    def plan(self, items: Mapping[str, Sequence[int]], seed: int, index: int, rng: np.random.Generator) -> TrainingPlan:
        """Draw training episode ``index``."""

    @abstractmethod
    def check(self, items: Mapping[str, Sequence[int]]) -> None:
        """Raise a ValueError that names what is too small if no episode can be drawn."""


@dataclass(frozen=True)
class ClassBatch(ClassTraining):
    """M classes and D images of each (RepMet, section 4.1: 12 and 4); labels are the training classes.

    Args:
        n_classes: M, at least 2.
        per_class: D, at least 1; a class with fewer images shows them more than once.
    """

    n_classes: int = 12
    per_class: int = 4
    protocol = "batch"

    def __post_init__(self) -> None:
        for name, least in {"n_classes": 2, "per_class": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"training.{name} is {getattr(self, name)} but must be at least {least}")

    def plan(self, items: Mapping[str, Sequence[int]], seed: int, index: int, rng: np.random.Generator) -> TrainingPlan:
        """Draw the classes, then the images of each."""
        names = sorted(items)
        classes = [names[i] for i in rng.choice(len(names), min(self.n_classes, len(names)), replace=False)]
        query = tuple(tuple(draw_numbers(items[name], self.per_class, rng)) for name in classes)
        return TrainingPlan(tuple(classes), (), query)

    def check(self, items: Mapping[str, Sequence[int]]) -> None:
        """Warn of small classes."""
        warn_of_few(items, self.per_class)


@dataclass(frozen=True)
class ClusterBatch(ClassBatch):
    """M clusters and D images of each (Rippel et al., ICLR 2016, section 3.2): a seed and its nearest of other classes.

    The clusters are those that the model found last; before the first time a batch is of M classes.

    Args:
        n_classes: M, at least 2; clusters in place of classes.
        per_class: D, at least 1, images of a cluster.
    """

    follows_model: ClassVar[bool] = True

    def plan_of(self, clusters: Clusters, images: Sequence[tuple[int, str]], rng: np.random.Generator) -> TrainingPlan:
        """Draw the clusters, then the images of each.

        Args:
            clusters: Of the training images.
            images: Number and class of each training image, as ``clusters.owner`` orders them.
            rng: Of the episode.
        """
        members = [np.flatnonzero(clusters.owner == c) for c in clusters.draw_neighbours(self.n_classes, rng)]
        rows = tuple(tuple(draw_numbers([images[i][0] for i in row], self.per_class, rng)) for row in members)
        return TrainingPlan(tuple(images[row[0]][1] for row in members), (), rows)


@dataclass(frozen=True)
class TaskTraining(ClassTraining):
    """Few-shot tasks, as prototypical networks train on; labels count within the task.

    Args:
        n_way: Classes of a task.
        k_shot: Support images of each.
        n_query: Query images of each.
    """

    n_way: int = 20
    k_shot: int = 5
    n_query: int = 5
    protocol = "episode"

    def plan(self, items: Mapping[str, Sequence[int]], seed: int, index: int, rng: np.random.Generator) -> TrainingPlan:
        """Draw the task."""
        return TrainingPlan(*self._sampler(items, seed)[index])

    def check(self, items: Mapping[str, Sequence[int]]) -> None:
        """Refuse more ways than classes, and classes that are too small."""
        self._sampler(items, 0)

    def _sampler(self, items: Mapping[str, Sequence[int]], seed: int) -> EpisodeSampler:
        return EpisodeSampler(items, self.n_way, self.k_shot, self.n_query, seed, "train")
