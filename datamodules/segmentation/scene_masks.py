"""Scenes of the drawn world as segmentation episodes: the embedded data, made in code, with no download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from datamodules.detection.scenes import Scenes
from datamodules.segmentation.control import check_one_way, with_other_support
from datamodules.world.appearance import ObjectClass
from datamodules.world.draw import Scene, draw_scene
from lightning_fewshot.episodes import Episode, Examples

MIN_VISIBLE = 0.5  # share of an object that is not covered
TRIES = 20


class SceneMasks(Scenes):
    """Few-shot segmentation in drawn scenes: classes of train, val and test are disjoint, every scene is new.

    An episode asks for ``n_way`` classes. A support scene shows one of them, masked, among objects of other classes of
    the split, which are background; a query scene shows it again. A training episode is a batch of pairs of such
    scenes, one support scene a pair, with every object of both labelled by its training class.

    Args:
        n_way: Classes of an episode; every query scene is asked for one of them where it is 1, else for all.
        n_query: Query scenes of each class.
        k_shot: Support scenes of each class in evaluation.
        max_objects: Objects of a scene at most, the asked one included.
        other_support: Control: evaluate each question with the support of the next one that asks for another class (one
            class an episode). What a method still finds, it finds without its support.
        options: See Scenes.
    """

    def __init__(
        self,
        n_way: int = 1,
        n_query: int = 1,
        k_shot: int = 1,
        max_objects: int = 3,
        other_support: bool = False,
        **options,
    ) -> None:
        check_one_way(other_support, n_way)
        self.other_support = other_support
        super().__init__(n_way=n_way, n_query=n_query, k_shot=k_shot, max_objects=max_objects, **options)

    def protocol(self, split: str) -> dict:
        """Say how a split was evaluated."""
        return super().protocol(split) | {"other_support": self.other_support}

    def episode(self, split: str, index: int) -> Episode:
        """Draw episode ``index`` of ``split``."""
        if split == "train":
            return self._training_batch(index)
        if self.other_support:
            return with_other_support(partial(self._task, split), index, self.counts[split])
        return self._task(split, index)

    def _task(self, split: str, index: int) -> Episode:
        pool = self.classes["train" if self.eval_classes == "seen" else split]
        rng = self.rng(split, index)
        ids = rng.choice(len(pool), self.n_way, replace=False).tolist()
        others = [i for i in range(len(pool)) if i not in ids]
        asked = list(range(self.n_way))
        support = [self._masked(rng, pool, ids, c, others) for c in asked for _ in range(self.k_shot)]
        query = [
            self._masked(rng, pool, ids, c, others + [ids[d] for d in asked if d != c])
            for c in asked
            for _ in range(self.n_query)
        ]
        shots = torch.arange(self.n_way).repeat_interleave(self.k_shot)
        labels = torch.arange(self.n_way).repeat_interleave(self.n_query) if self.n_way == 1 else None
        names = tuple(pool[i].name for i in ids)
        only_own = [np.where(mask == c + 1, mask, 0) for (_, mask), c in zip(support, shots.tolist(), strict=True)]
        support = [(image, mask.astype(np.uint8)) for (image, _), mask in zip(support, only_own, strict=True)]
        return Episode(
            _examples(support, shots, f"{split}{index}s"),
            _examples(query, labels, f"{split}{index}q"),
            names,
            index,
            tuple(ids),
        )

    def _training_batch(self, index: int) -> Episode:
        """Draw pairs; the batch's classes are those that its scenes show."""
        pool, rng = self.classes["train"], self.rng("train", index)
        drawn = rng.choice(len(pool), min(len(pool), self.batch_size * self.max_objects), replace=False).tolist()
        labels = torch.from_numpy(rng.integers(len(drawn), size=self.batch_size))
        pairs = [
            (self._pair_scene(rng, pool, drawn, c), self._pair_scene(rng, pool, drawn, c)) for c in labels.tolist()
        ]
        support, query = zip(*pairs, strict=True)
        return Episode(
            _examples(support, labels, f"train{index}s")._replace(query_index=torch.arange(len(support))),
            _examples(query, labels, f"train{index}q"),
            tuple(pool[i].name for i in drawn),
            index,
            tuple(drawn),
        )

    def _pair_scene(
        self, rng: np.random.Generator, pool: Sequence[ObjectClass], drawn: list[int], asked: int
    ) -> tuple[np.ndarray, np.ndarray]:
        others = [i for i in drawn if i != drawn[asked]]
        return self._masked(rng, pool, drawn, asked, others)

    def _masked(
        self, rng: np.random.Generator, pool: Sequence[ObjectClass], ids: list[int], asked: int, others: list[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw a scene with class ``ids[asked]`` and up to ``max_objects - 1`` others; return it with its mask."""
        for _ in range(TRIES):
            count = int(rng.integers(self.max_objects)) if others else 0
            shown = [ids[asked], *rng.choice(others, count).tolist()] if count else [ids[asked]]
            scene = draw_scene(
                rng,
                [pool[i] for i in shown],
                labels=[ids.index(i) if i in ids else -1 for i in shown],
                size=self.image_size,
                clutter=self.classes["clutter"],
                n_clutter=self.clutter,
                min_visible=MIN_VISIBLE,
                variation=self.variation,
            )
            if asked in scene.labels:  # in a crowd an object may have been left out
                return scene.image, class_mask(scene)
        raise AssertionError(f"no place for {pool[ids[asked]].name} in {TRIES} scenes")


def class_mask(scene: Scene) -> np.ndarray:
    """Return ``(H, W)`` uint8: 0 background, 1 + label where an object is seen; label -1 is background."""
    values = (scene.labels + 1).astype(np.uint8)[:, None, None]
    return (scene.masks * values).sum(0, dtype=np.uint8)  # visible parts do not overlap


def _examples(scenes: Sequence[tuple[np.ndarray, np.ndarray]], labels: torch.Tensor | None, name: str) -> Examples:
    images = torch.from_numpy(np.stack([image for image, _ in scenes])).permute(0, 3, 1, 2).contiguous()
    masks = torch.from_numpy(np.stack([mask for _, mask in scenes]))
    return Examples(images, labels, class_masks=masks, names=tuple(f"{name}{i}" for i in range(len(scenes))))
