"""Few-shot classification of images: batches or tasks to train on, episodes or a closed set to evaluate on.

Shapes: N classes, K shots, Q queries of each class.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.classification.catalog import PARTS, ClassCatalog, ClassImage
from datamodules.classification.settings import ClassSplits, ImageSettings
from datamodules.classification.store import ImageStore
from datamodules.classification.training import ClassBatch, ClassTraining, ClusterBatch, TrainingPlan
from datamodules.images.augmentation import jitter_colors
from datamodules.images.reading import SkippedItems
from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.images import read_image
from lightning_fewshot.sampling import Clusters, EpisodePlan, EpisodeSampler

CLOSED_BATCH = 64  # images of an evaluation batch of a closed set


class ClassImages(EpisodicDataModule):
    """Images of one class each. Subclasses write ``list_images()``, and ``class_parts()`` where they have splits.

    A training episode is what ``training`` says. Evaluated on "novel" classes, a validation or test episode is a task
    of ``n_way`` classes; in a "closed" set it is a batch of held-out images of all classes, without support.

    Args:
        images: How images are shown.
        splits: Which classes and images are in which split.
        training: What a training episode is: ClassBatch, or TaskTraining.
        n_open: Query images of a task that show none of its classes, for rejection; their label is N.
        n_way: Classes of a task.
        k_shot: Support images of each class.
        n_query: Query images of each class.
        episodes: Episodes of training, validation and test; a closed set has all its images at most.
        seed: Episode i of a split is a function of (seed, split, i) alone.
        num_workers: Processes that prepare episodes; a gather from memory is quicker than a copy between them, so 0.
    """

    def __init__(
        self,
        images: ImageSettings = ImageSettings(),
        splits: ClassSplits = ClassSplits(),
        training: ClassTraining = ClassBatch(),
        n_open: int = 0,
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 15,
        episodes: EpisodeCounts = EpisodeCounts(500, 50, 600),
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            n_way=n_way, k_shot=k_shot, n_query=n_query, episodes=episodes, seed=seed, num_workers=num_workers
        )
        if n_open < 0:
            raise ValueError(f"n_open is {n_open} but must be at least 0")
        self.images = images
        self.splits = splits
        self.training = training
        self.n_open = n_open
        if training.follows_model and num_workers:
            raise ValueError(f"num_workers is {num_workers} but {type(training).__name__} follows the model: must be 0")
        self.clusters: Clusters | None = None
        self._asked = dict(self.counts)

    @abstractmethod
    def list_images(self) -> Sequence[ClassImage]:
        """Return all images of the data set."""

    def class_parts(self) -> Mapping[str, Iterable[str]] | None:
        """Return the classes of "train", "val" and "test" where the data set has such a split."""
        return None

    def attributes_of(self, image: ClassImage) -> frozenset[str]:
        """Return what is known of an image besides its class, such as "striped"; models are never shown it."""
        return frozenset()

    def read(self, image: ClassImage) -> np.ndarray:
        """Return an image as ``(H, W, 3)`` uint8 RGB."""
        return read_image(image.path)

    def setup(self, stage: str | None = None) -> None:
        """Decode the images, leave out what is none, and refuse splits that cannot make an episode."""
        self.training.check(self.catalog.items["train"])
        for split in ("val", "test"):
            if self.closed:
                batches = -(-len(self._held_out(split)) // CLOSED_BATCH)
                if not batches and self._asked[split] != 0:
                    raise ValueError(
                        f"split {split!r} has 0 images: raise splits.{split}_images, or ask for 0 episodes"
                    )
                self.counts[split] = batches if self._asked[split] is None else min(batches, self._asked[split])
            elif self.counts[split] is None:
                raise ValueError(f"episodes.{split} is None but tasks have no end: give a number")
            elif self.counts[split]:
                self._sampler(split)

    @property
    def closed(self) -> bool:
        """Whether all classes train, and held-out images of them are evaluated."""
        return self.splits.evaluated == "closed"

    @cached_property
    def listed(self) -> tuple[list[ClassImage], ImageStore]:
        """The images that can be read, and their store."""
        images = list(self.list_images())
        store = self._store(images)
        errors = store.fill(range(len(images))) if self.decodes_first and store.kept else {}
        if not errors:
            return images, store
        skipped = SkippedItems()
        for number, error in errors.items():
            skipped.add(images[number].name, error)
        skipped.warn("images that cannot be read")
        good = [number for number in range(len(images)) if number not in errors]
        kept = self._store([images[number] for number in good])
        kept.images[:] = store.images[good]
        kept.filled[:] = True
        return [images[number] for number in good], kept

    decodes_first = True  # drawn images are drawn when they are asked for

    @cached_property
    def catalog(self) -> ClassCatalog:
        """The images and their splits."""
        return ClassCatalog(self.listed[0], self.splits, seed=self.seed, class_parts=self.class_parts())

    def state_dict(self) -> dict[str, Any]:
        """Return the clusters that training follows, for a checkpoint."""
        return {} if self.clusters is None else {k: torch.from_numpy(v) for k, v in self.clusters._asdict().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the clusters of a checkpoint."""
        self.clusters = Clusters(**{k: v.numpy() for k, v in state_dict.items()}) if state_dict else None

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the training classes."""
        return self.catalog.split_classes["train"]

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val" or "test"."""
        if split == "train":
            return self._training_episode(index)
        if split not in PARTS:
            raise ValueError(f"split is {split!r} but {type(self).__name__} has {', '.join(PARTS)}")
        return self._closed_batch(split, index) if self.closed else self._task(split, index)

    def reference_episodes(self) -> Iterator[Episode]:
        """Yield all training images as they are evaluated, in batches: for models that keep what they trained on."""
        labelled = self._held_out("train")
        for first in range(0, len(labelled), CLOSED_BATCH):
            yield self._batch_of(labelled[first : first + CLOSED_BATCH], index=first // CLOSED_BATCH)

    def evaluation_images(self, numbers: Sequence[int]) -> Tensor:
        """Return images by their number in the list, as they are shown in an evaluation, ``(n, 3, S, S)`` uint8."""
        return torch.stack([self._shown(self.listed[1][number], None) for number in numbers])

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated."""
        more = {"evaluated": self.splits.evaluated, "classes": len(self.catalog.split_classes[split])}
        if self.closed:
            closed = {"n_way": more["classes"], "k_shot": 0, "images": len(self._held_out(split))}
            return {"split": split, "episodes": self.counts[split], "seed": self.seed} | more | closed
        return super().protocol(split) | more | {"n_open": self.n_open}

    # ------------------------------------------------------------------------------------------------------------

    def _store(self, images: list[ClassImage]) -> ImageStore:
        side, cache = self.images.stored_size, self.images.cache_mb
        return ImageStore(lambda number: self.read(images[number]), len(images), side=side, cache_mb=cache)

    def _sampler(self, split: str) -> EpisodeSampler:
        items = self.catalog.items[split]
        return EpisodeSampler(items, self.n_way, self.k_shot, self.n_query, seed=self.seed, split=split)

    def _held_out(self, split: str) -> list[tuple[int, int]]:
        """Return (image, label) of all images of a split, in the order of the classes."""
        items = self.catalog.items[split]
        return [
            (number, label) for label, name in enumerate(self.catalog.split_classes[split]) for number in items[name]
        ]

    def _training_episode(self, index: int) -> Episode:
        plan, changes = self._training_plan(index), self.rng("train", index, "augment")
        if self.training.protocol == "episode":
            parts = [self._examples(*_flat(rows), rng=changes) for rows in (plan.support, plan.query)]
            return Episode(parts[0], parts[1], plan.classes, index)
        names = self.class_names()
        labels = [names.index(name) for name, row in zip(plan.classes, plan.query, strict=True) for _ in row]
        query = self._examples(_flat(plan.query)[0], labels, rng=changes)
        return Episode(None, query, names, index, tuple(range(len(names))), protocol="batch")

    def _training_plan(self, index: int) -> TrainingPlan:
        rng = self.rng("train", index)
        if self.clusters is None or not isinstance(self.training, ClusterBatch):
            return self.training.plan(self.catalog.items["train"], self.seed, index, rng)
        names = self.class_names()
        images = [(number, names[label]) for number, label in self._held_out("train")]
        return self.training.plan_of(self.clusters, images, rng)

    def _task(self, split: str, index: int) -> Episode:
        plan = self._sampler(split)[index]
        numbers, labels = _flat(plan.query)
        unknown = self._open_numbers(split, plan, index)
        query = self._examples([*numbers, *unknown], [*labels, *[self.n_way] * len(unknown)])
        order = {name: i for i, name in enumerate(self.catalog.split_classes[split])}
        ids = tuple(order[name] for name in plan.classes)
        return Episode(self._examples(*_flat(plan.support)), query, plan.classes, index, ids)

    def _open_numbers(self, split: str, plan: EpisodePlan, index: int) -> list[int]:
        """Draw images of the split's other classes."""
        others = [n for name, numbers in self.catalog.items[split].items() if name not in plan.classes for n in numbers]
        if len(others) < self.n_open:
            raise ValueError(f"n_open is {self.n_open} but split {split!r} has {len(others)} images of other classes")
        chosen = self.rng(split, index, "open").choice(len(others), self.n_open, replace=False) if self.n_open else []
        return [others[i] for i in chosen]

    def _closed_batch(self, split: str, index: int) -> Episode:
        return self._batch_of(self._held_out(split)[index * CLOSED_BATCH : (index + 1) * CLOSED_BATCH], index)

    def _batch_of(self, labelled: list[tuple[int, int]], index: int) -> Episode:
        names = self.class_names()
        query = self._examples([n for n, _ in labelled], [label for _, label in labelled])
        return Episode(None, query, names, index, tuple(range(len(names))), protocol="batch")

    def _examples(self, numbers: list[int], labels: list[int], rng: np.random.Generator | None = None) -> Examples:
        images, store = self.listed
        shown = torch.stack([self._shown(store[number], rng) for number in numbers])
        return Examples(shown, torch.tensor(labels), names=tuple(images[number].name for number in numbers))

    def _shown(self, square: Tensor, rng: np.random.Generator | None) -> Tensor:
        """Cut what a network sees of a stored square: the middle, or a random part that may be mirrored."""
        spare, size = self.images.stored_size - self.images.size, self.images.size
        top, left = (spare // 2, spare // 2) if rng is None else rng.integers(spare + 1, size=2)
        part = square[:, top : top + size, left : left + size]
        if rng is None:
            return part
        if self.images.color:
            part = torch.from_numpy(jitter_colors(part.permute(1, 2, 0).numpy().copy(), rng)).permute(2, 0, 1)
        return part.flip(2) if self.images.mirror and rng.random() < 0.5 else part


def _flat(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Return the numbers of all rows and the row of each."""
    return [n for row in rows for n in row], [label for label, row in enumerate(rows) for _ in row]
