"""Scenes of the drawn world as episodes: the splits of its classes, and what detection and segmentation share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from datamodules.world.appearance import ObjectClass, class_seeds, make_class
from datamodules.world.draw import MIN_SIZE, Scene, draw_scene
from datamodules.world.sprite import DEFAULT_VARIATION, Variation
from lightning_fewshot.data import STAGES, EpisodeCounts, EpisodicDataModule


@dataclass(frozen=True)
class SceneSettings:
    """What a drawn scene is like.

    Args:
        image_size: Side of a scene, in pixels, at least 32.
        max_objects: Objects of a training or query scene at most.
        clutter: Fewest and most unlabelled objects of a scene.
        crowd: Fewest and most objects of a training scene of detection; None: one to ``max_objects``.
        variation: How far instances of a class differ.
    """

    image_size: int = 160
    max_objects: int = 4
    clutter: tuple[int, int] = (0, 2)
    crowd: tuple[int, int] | None = None
    variation: Variation = DEFAULT_VARIATION

    def __post_init__(self) -> None:
        if self.image_size < MIN_SIZE:
            raise ValueError(f"image_size is {self.image_size} pixels but must be at least {MIN_SIZE}")
        if self.max_objects < 1:
            raise ValueError(f"max_objects is {self.max_objects} but must be at least 1")
        if not 0 <= self.clutter[0] <= self.clutter[1]:
            raise ValueError(f"clutter is {self.clutter} but must be 0 <= fewest <= most")


@dataclass(frozen=True)
class SceneClasses:
    """How many classes of the drawn world each split has, at least 1; all are disjoint.

    Args:
        train: Training classes.
        val: Validation classes.
        test: Test classes.
        clutter: Classes that unlabelled objects are drawn from, at least 0; they are in no split.
        evaluated: "novel", or "seen": validate and test on the training classes.
    """

    train: int = 200
    val: int = 40
    test: int = 60
    clutter: int = 40
    evaluated: Literal["novel", "seen"] = "novel"

    def __post_init__(self) -> None:
        for name, least in {"train": 1, "val": 1, "test": 1, "clutter": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"classes.{name} is {getattr(self, name)} but must be at least {least}")
        if self.evaluated not in ("novel", "seen"):
            raise ValueError(f"evaluated is {self.evaluated!r} but must be 'novel' or 'seen'")


class SceneEpisodes(EpisodicDataModule):
    """Episodes of drawn scenes: classes of train, val and test are disjoint, every scene is new.

    Args:
        batch_size: Scenes of a training episode.
        scene: What a scene is like.
        classes: How many classes each split has.
        n_way: Classes of an episode.
        k_shot: Support scenes of each class.
        n_query: Query scenes of each class.
        episodes: Episodes of training, validation and test.
        seed: Seed of all scenes.
        num_workers: Processes that draw.
    """

    data_license = "MIT, as this project, which draws it"

    def __init__(
        self,
        batch_size: int = 8,
        scene: SceneSettings = SceneSettings(),
        classes: SceneClasses = SceneClasses(),
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 10,
        episodes: EpisodeCounts = EpisodeCounts(500, 20, 100),
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__(
            n_way=n_way, k_shot=k_shot, n_query=n_query, episodes=episodes, seed=seed, num_workers=num_workers
        )
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size} but must be at least 1")
        self.batch_size = batch_size
        self.scene = scene
        self.class_settings = classes

    def setup(self, stage: str) -> None:
        """Refuse a stage whose episodes would hold more classes than there are, before anything costs time."""
        tested_after_fit = ("test",) if stage == "fit" else ()
        for split in (*STAGES[stage], *tested_after_fit):
            if split in ("val", "test") and self.n_way > len(self.pool(split)):
                raise ValueError(f"n_way is {self.n_way} but split {split!r} has {len(self.pool(split))} classes")

    @cached_property
    def classes(self) -> dict[str, list[ObjectClass]]:
        """The classes of each split, and those of the clutter, all disjoint."""
        counts = self.class_settings
        sizes = {"train": counts.train, "val": counts.val, "test": counts.test + counts.clutter}
        made = {split: [make_class(seed) for seed in class_seeds(split, **sizes)] for split in sizes}
        return made | {"test": made["test"][: counts.test], "clutter": made["test"][counts.test :]}

    def pool(self, split: str) -> list[ObjectClass]:
        """Return the classes that the episodes of a split choose from."""
        return self.classes["train" if self.class_settings.evaluated == "seen" else split]

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the training classes."""
        return tuple(c.name for c in self.classes["train"])

    def protocol(self, split: str) -> dict:
        """Say how a split was evaluated."""
        more = {"classes": self.class_settings.evaluated, "image_size": self.scene.image_size}
        return super().protocol(split) | more

    def draw(
        self,
        rng: np.random.Generator,
        objects: Sequence[ObjectClass],
        labels: Sequence[int],
        min_visible: float = 0.5,
    ) -> Scene:
        """Draw a scene of some objects among clutter.

        Args:
            rng: Source of all randomness.
            objects: Class of each object.
            labels: Label of each.
            min_visible: Least share of each object that is neither covered nor outside the picture.
        """
        return draw_scene(
            rng,
            objects,
            labels=labels,
            size=self.scene.image_size,
            clutter=self.classes["clutter"],
            n_clutter=self.scene.clutter,
            min_visible=min_visible,
            variation=self.scene.variation,
        )
