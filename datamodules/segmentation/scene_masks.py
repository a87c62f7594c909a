"""Scenes of the drawn world as segmentation episodes: the embedded data, made in code, with no download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from datamodules.world.appearance import ObjectClass
from datamodules.world.draw import Scene
from datamodules.world.scenes import SceneEpisodes, SceneSettings
from lightning_fewshot.episodes import Episode, Examples

MIN_VISIBLE = 0.5  # share of an object that is not covered
TRIES = 20
MaskedImage = tuple[np.ndarray, np.ndarray]  # (H, W, 3) and (H, W), uint8


class SceneMasks(SceneEpisodes):
    """Few-shot segmentation in drawn scenes.

    An episode asks for ``n_way`` classes. A support scene shows one of them, masked, among objects of other classes of
    the split, which are background; a query scene shows it again. A training episode is a batch of pairs of such
    scenes, one support scene a pair, with every object of both labelled by its training class.

    Args:
        scene: What a scene is like; its ``max_objects`` count the asked one too.
        n_way: Classes of an episode; every query scene is asked for one of them where it is 1, else for all.
        n_query: Query scenes of each class.
        options: See SceneEpisodes.
    """

    def __init__(
        self, scene: SceneSettings = SceneSettings(max_objects=3), n_way: int = 1, n_query: int = 1, **options
    ) -> None:
        super().__init__(scene=scene, n_way=n_way, n_query=n_query, **options)

    def episode(self, split: str, index: int) -> Episode:
        """Draw episode ``index`` of ``split``."""
        return self._pairs(index) if split == "train" else self._task(split, index)

    def _task(self, split: str, index: int) -> Episode:
        pool, rng, ways = self.pool(split), self.rng(split, index), range(self.n_way)
        ids = rng.choice(len(pool), self.n_way, replace=False).tolist()
        others = [i for i in range(len(pool)) if i not in ids]
        query = [
            self._masked(rng=rng, pool=pool, ids=ids, asked=c, others=others + [ids[d] for d in ways if d != c])
            for c in ways
            for _ in range(self.n_query)
        ]
        shots = [
            self._masked(rng=rng, pool=pool, ids=ids, asked=c, others=others) for c in ways for _ in range(self.k_shot)
        ]
        shown = torch.arange(self.n_way).repeat_interleave(self.k_shot)
        asked = torch.arange(self.n_way).repeat_interleave(self.n_query) if self.n_way == 1 else None
        support = [_of_class(image, mask, c) for (image, mask), c in zip(shots, shown.tolist(), strict=True)]
        return Episode(
            support=_examples(support, shown, f"{split}{index}s"),
            query=_examples(query, asked, f"{split}{index}q"),
            classes=tuple(pool[i].name for i in ids),
            index=index,
            class_ids=tuple(ids),
        )

    def _pairs(self, index: int) -> Episode:
        """Draw pairs; the batch's classes are those that its scenes show."""
        pool, rng, most = self.classes["train"], self.rng("train", index), self.batch_size * self.scene.max_objects
        drawn = rng.choice(len(pool), min(len(pool), most), replace=False).tolist()
        labels = torch.from_numpy(rng.integers(len(drawn), size=self.batch_size))
        scenes = []
        for c in labels.tolist():
            others = [i for i in drawn if i != drawn[c]]
            scenes += [
                self._masked(rng=rng, pool=pool, ids=drawn, asked=c, others=others) for _ in ("support", "query")
            ]
        support = _examples(scenes[::2], labels, f"train{index}s")
        return Episode(
            support=support._replace(query_index=torch.arange(self.batch_size)),
            query=_examples(scenes[1::2], labels, f"train{index}q"),
            classes=tuple(pool[i].name for i in drawn),
            index=index,
            class_ids=tuple(drawn),
            protocol="pairs",
        )

    def _masked(
        self, rng: np.random.Generator, pool: Sequence[ObjectClass], ids: list[int], asked: int, others: list[int]
    ) -> MaskedImage:
        """Draw a scene with class ``ids[asked]`` and up to ``max_objects - 1`` others; return it with its mask."""
        for _ in range(TRIES):
            count = int(rng.integers(self.scene.max_objects)) if others else 0
            shown = [ids[asked], *rng.choice(others, count).tolist()] if count else [ids[asked]]
            labels = [ids.index(i) if i in ids else -1 for i in shown]
            scene = self.draw(rng=rng, objects=[pool[i] for i in shown], labels=labels, min_visible=MIN_VISIBLE)
            if asked in scene.labels:  # in a crowd an object may have been left out
                return scene.image, class_mask(scene)
        raise AssertionError(f"no place for {pool[ids[asked]].name} in {TRIES} scenes")


def class_mask(scene: Scene) -> np.ndarray:
    """Return ``(H, W)`` uint8: 0 background, 1 + label where an object is seen; label -1 is background."""
    values = (scene.labels + 1).astype(np.uint8)[:, None, None]
    return (scene.masks * values).sum(0, dtype=np.uint8)  # visible parts do not overlap


def _of_class(image: np.ndarray, mask: np.ndarray, label: int) -> MaskedImage:
    """Make all but one class background."""
    return image, np.where(mask == label + 1, mask, 0).astype(np.uint8)


def _examples(scenes: Sequence[MaskedImage], labels: torch.Tensor | None, name: str) -> Examples:
    images = torch.from_numpy(np.stack([image for image, _ in scenes])).permute(0, 3, 1, 2).contiguous()
    masks = torch.from_numpy(np.stack([mask for _, mask in scenes]))
    return Examples(images, labels, class_masks=masks, names=tuple(f"{name}{i}" for i in range(len(scenes))))
