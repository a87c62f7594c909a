"""Scenes of the drawn world as detection episodes: the embedded data, made in code, with no download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from datamodules.world.appearance import ObjectClass, class_seeds, make_class
from datamodules.world.draw import Scene, draw_scene
from datamodules.world.sprite import DEFAULT_VARIATION, Variation
from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples


class Scenes(EpisodicDataModule):
    """Few-shot detection in drawn scenes: classes of train, val and test are disjoint, every scene is new.

    A training episode is a batch of scenes with objects of all training classes and no support. A validation or test
    episode has ``k_shot`` support scenes of each class, with one labelled object each, and ``n_query`` query scenes of
    each class, with one to ``max_objects`` objects of the episode's classes. Unlabelled clutter comes from classes
    that are in no split.

    Args:
        n_way: Classes of an episode.
        k_shot: Support scenes of each class.
        n_query: Query scenes of each class.
        batch_size: Scenes of a training episode.
        image_size: Side of a scene, in pixels.
        max_objects: Objects of a training or query scene at most.
        clutter: Fewest and most unlabelled objects of a scene.
        n_classes: Classes in (train, val, test).
        n_clutter_classes: Classes that unlabelled objects are drawn from.
        variation: How far instances of a class differ.
        eval_classes: "novel", or "seen": validate and test on the training classes (table 3's last rows).
        episodes: Episodes of training, validation and test.
        seed: Seed of all scenes.
        num_workers: Processes that draw.
    """

    def __init__(
        self,
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 10,
        batch_size: int = 8,
        image_size: int = 160,
        max_objects: int = 4,
        clutter: tuple[int, int] = (0, 2),
        n_classes: tuple[int, int, int] = (200, 40, 60),
        n_clutter_classes: int = 40,
        variation: Variation = DEFAULT_VARIATION,
        eval_classes: Literal["novel", "seen"] = "novel",
        episodes: EpisodeCounts = EpisodeCounts(500, 20, 100),
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__(
            n_way=n_way, k_shot=k_shot, n_query=n_query, episodes=episodes, seed=seed, num_workers=num_workers
        )
        if batch_size < 1 or max_objects < 1:
            raise ValueError(f"batch_size and max_objects must be at least 1, got {batch_size} and {max_objects}")
        self.batch_size, self.image_size = batch_size, image_size
        self.max_objects, self.clutter = max_objects, clutter
        self.n_classes, self.n_clutter_classes, self.eval_classes = n_classes, n_clutter_classes, eval_classes
        self.variation = variation

    def setup(self, stage: str | None = None) -> None:
        """Refuse a stage whose episodes would hold more classes than there are, before anything costs time."""
        for split in {"fit": ("val", "test"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            if self.n_way > len(self._pool(split)):
                raise ValueError(f"n_way is {self.n_way} but split {split!r} has {len(self._pool(split))} classes")

    @cached_property
    def classes(self) -> dict[str, list[ObjectClass]]:
        """The classes of each split, and those of the clutter, all disjoint."""
        train, val, test = self.n_classes
        seeds = {s: class_seeds(s, train, val, test + self.n_clutter_classes) for s in ("train", "val", "test")}
        made = {split: [make_class(seed) for seed in of_split] for split, of_split in seeds.items()}
        return made | {"test": made["test"][:test], "clutter": made["test"][test:]}

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the training classes."""
        return tuple(c.name for c in self.classes["train"])

    def protocol(self, split: str) -> dict:
        """Say how a split was evaluated."""
        return super().protocol(split) | {"classes": self.eval_classes, "image_size": self.image_size}

    def episode(self, split: str, index: int) -> Episode:
        """Draw episode ``index`` of ``split``."""
        if split == "train":
            return self._training_batch(index)
        pool = self._pool(split)
        rng = self.rng(split, index)
        ids = sorted(rng.choice(len(pool), self.n_way, replace=False).tolist())
        chosen = [pool[i] for i in ids]
        support = [self._scene(rng, chosen, [c]) for c in range(self.n_way) for _ in range(self.k_shot)]
        query = [
            self._scene(rng, chosen, [c, *rng.integers(self.n_way, size=rng.integers(self.max_objects)).tolist()])
            for c in range(self.n_way)
            for _ in range(self.n_query)
        ]
        names = tuple(c.name for c in chosen)
        return Episode(
            _examples(support, f"{split}{index}s"), _examples(query, f"{split}{index}q"), names, index, tuple(ids)
        )

    def _pool(self, split: str) -> list[ObjectClass]:
        """The classes that the validation or test episodes of a split choose from."""
        return self.classes["train" if self.eval_classes == "seen" else split]

    def _training_batch(self, index: int) -> Episode:
        pool, rng = self.classes["train"], self.rng("train", index)
        scenes = [
            self._scene(rng, pool, rng.integers(len(pool), size=rng.integers(1, self.max_objects + 1)).tolist())
            for _ in range(self.batch_size)
        ]
        query = _examples(scenes, f"train{index}q")
        return Episode(None, query, self.class_names(), index, tuple(range(len(pool))))

    def _scene(self, rng: np.random.Generator, pool: Sequence[ObjectClass], labels: list[int]) -> Scene:
        return draw_scene(
            rng,
            [pool[label] for label in labels],
            labels=labels,
            size=self.image_size,
            clutter=self.classes["clutter"],
            n_clutter=self.clutter,
            variation=self.variation,
        )


def _examples(scenes: list[Scene], name: str) -> Examples:
    images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2).contiguous()
    return Examples(
        images,
        labels=[torch.from_numpy(s.labels) for s in scenes],
        boxes=[torch.from_numpy(s.boxes) for s in scenes],
        instance_masks=[torch.from_numpy(s.masks) for s in scenes],
        names=tuple(f"{name}{i}" for i in range(len(scenes))),
    )
