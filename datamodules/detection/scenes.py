"""Scenes of the drawn world as detection episodes: the embedded data, made in code, with no download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from datamodules.world.appearance import ObjectClass
from datamodules.world.draw import Scene
from datamodules.world.scenes import SceneEpisodes
from lightning_fewshot.episodes import Episode, Examples


class Scenes(SceneEpisodes):
    """Few-shot detection in drawn scenes.

    A training episode is a batch of scenes with objects of all training classes and no support. A validation or test
    episode has ``k_shot`` support scenes of each class, with one labelled object each, and ``n_query`` query scenes of
    each class, with one to ``max_objects`` objects of the episode's classes. Unlabelled clutter comes from classes
    that are in no split.
    """

    def episode(self, split: str, index: int) -> Episode:
        """Draw episode ``index`` of ``split``."""
        return self._batch(index) if split == "train" else self._task(split, index)

    def _batch(self, index: int) -> Episode:
        pool, rng, (fewest, most) = (
            self.classes["train"],
            self.rng("train", index),
            self.scene.crowd or (1, self.scene.max_objects),
        )
        drawn = (rng.integers(len(pool), size=rng.integers(fewest, most + 1)).tolist() for _ in range(self.batch_size))
        query = _examples([self._scene(rng, pool, labels) for labels in drawn], f"train{index}q")
        return Episode(
            support=None,
            query=query,
            classes=self.class_names(),
            index=index,
            class_ids=tuple(range(len(pool))),
            protocol="batch",
        )

    def _task(self, split: str, index: int) -> Episode:
        pool, rng = self.pool(split), self.rng(split, index)
        ids = sorted(rng.choice(len(pool), self.n_way, replace=False).tolist())
        chosen, ways = [pool[i] for i in ids], range(self.n_way)
        query = [self._scene(rng, chosen, [c, *self._further(rng)]) for c in ways for _ in range(self.n_query)]
        support = [self._scene(rng, chosen, [c]) for c in ways for _ in range(self.k_shot)]
        return Episode(
            support=_examples(support, f"{split}{index}s"),
            query=_examples(query, f"{split}{index}q"),
            classes=tuple(c.name for c in chosen),
            index=index,
            class_ids=tuple(ids),
        )

    def _further(self, rng: np.random.Generator) -> list[int]:
        """Draw the labels of further objects in a query scene."""
        return rng.integers(self.n_way, size=rng.integers(self.scene.max_objects)).tolist()

    def _scene(self, rng: np.random.Generator, pool: Sequence[ObjectClass], labels: list[int]) -> Scene:
        return self.draw(rng, [pool[label] for label in labels], labels)


def _examples(scenes: list[Scene], name: str) -> Examples:
    images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2).contiguous()
    return Examples(
        images,
        labels=[torch.from_numpy(s.labels) for s in scenes],
        boxes=[torch.from_numpy(s.boxes) for s in scenes],
        instance_masks=[torch.from_numpy(s.masks) for s in scenes],
        names=tuple(f"{name}{i}" for i in range(len(scenes))),
    )
