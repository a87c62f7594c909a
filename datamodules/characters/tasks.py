"""Characters as few-shot tasks: n ways, k shots and several queries, over all characters or within an alphabet.

Shapes: N characters of a task, K shots, Q queries of each; S side of a drawing in pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from datamodules.characters.affine import DrawingAugmentation, jitter
from datamodules.characters.drawings import Characters, checked, with_symmetries
from lightning_fewshot.data import STAGES, EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples

TEST_SPLITS = ("test", "predict")  # what is predicted on is the first test episode


@dataclass(frozen=True)
class TrainingTask:
    """Size of a training task (Snell et al., section 3.1: 60 ways for Omniglot).

    Args:
        n_way: Characters.
        k_shot: Support drawings of each.
        n_query: Query drawings of each.
    """

    n_way: int = 60
    k_shot: int = 5
    n_query: int = 5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"training.{name} is {value} but must be at least 1")


class CharacterTasks(EpisodicDataModule):
    """Tasks of characters. Subclasses write ``background()`` and ``evaluation()``.

    Args:
        within_alphabet: Draw the characters of a validation or test task from one alphabet; False: from all.
        training: Size of a training task.
        augmentation: How training drawings are varied; quarter turns are further characters, as the field has it.
        val_alphabets: Background alphabets held out for validation, the last in alphabetical order, at least 1.
        n_way: Characters of a validation or test task.
        k_shot: Support drawings of each.
        n_query: Query drawings of each.
        episodes: Episodes of training, validation and test.
        seed: Episode i of a split is a function of (seed, split, i) alone.
        num_workers: Processes that prepare episodes; a gather is quicker than a copy between processes, so 0.
    """

    def __init__(
        self,
        within_alphabet: bool = False,
        training: TrainingTask = TrainingTask(),
        augmentation: DrawingAugmentation = DrawingAugmentation(quarter_turns=True),
        val_alphabets: int = 5,
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 15,
        episodes: EpisodeCounts = EpisodeCounts(1000, 100, 1000),
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            n_way=n_way, k_shot=k_shot, n_query=n_query, episodes=episodes, seed=seed, num_workers=num_workers
        )
        if val_alphabets < 1:
            raise ValueError(f"val_alphabets is {val_alphabets} but must be at least 1")
        self.within_alphabet = within_alphabet
        self.training = training
        self.augmentation = augmentation
        self.val_alphabets = val_alphabets
        self._splits: dict[str, Characters] = {}

    @abstractmethod
    def background(self) -> Characters:
        """Return the alphabets to train on, and to hold out from."""

    @abstractmethod
    def evaluation(self) -> Characters:
        """Return the alphabets to test on."""

    def setup(self, stage: str | None = None) -> None:
        """Load what a stage needs, before worker processes are forked."""
        for split in STAGES.get(stage, ()):
            self.characters(split)

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the training characters."""
        return self.characters("train").names

    def characters(self, split: str) -> Characters:
        """Return the drawings of a split, loaded once.

        Raises:
            ValueError: There is no such split, or it cannot make a task; names what is too small, and both numbers.
        """
        if split not in self._splits:
            if split in TEST_SPLITS:
                self._splits |= dict.fromkeys(TEST_SPLITS, self._checked(self.evaluation(), "test"))
            elif split in ("train", "val"):
                self._splits[split] = self._half(split)
            else:
                raise ValueError(f"split is {split!r} but {type(self).__name__} has train, val, test and predict")
        return self._splits[split]

    def episode(self, split: str, index: int) -> Episode:
        """Return task ``index`` of a split: queries are drawn before the support."""
        characters, rng = self.characters(split), self.rng("test" if split == "predict" else split, index)
        task = self.training if split == "train" else TrainingTask(self.n_way, self.k_shot, self.n_query)
        chosen = self._chosen(characters, task.n_way, self.within_alphabet and split != "train", rng)
        begin = np.cumsum(characters.drawings) - characters.drawings
        orders = [begin[c] + rng.permutation(characters.drawings[c]) for c in chosen]
        query = np.concatenate([order[: task.n_query] for order in orders])
        support = np.concatenate([order[task.n_query : task.n_query + task.k_shot] for order in orders])
        names = tuple(characters.names[c] for c in chosen)
        parts = [self._examples(split, index, characters, numbers, names) for numbers in (support, query)]
        return Episode(parts[0], parts[1], names, index, tuple(int(c) for c in chosen))

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated."""
        characters = self.characters(split)
        candidates = "one alphabet" if self.within_alphabet else "all characters"
        return super().protocol(split) | {"candidates": candidates, "characters": len(characters.drawings)}

    def _chosen(self, characters: Characters, n_way: int, within: bool, rng: np.random.Generator) -> np.ndarray:
        if not within:
            return rng.choice(len(characters.drawings), n_way, replace=False)
        alphabet = rng.choice(np.flatnonzero(characters.characters >= n_way))
        first = characters.characters[:alphabet].sum()
        return first + rng.choice(characters.characters[alphabet], n_way, replace=False)

    def _examples(
        self, split: str, index: int, characters: Characters, numbers: np.ndarray, names: tuple[str, ...]
    ) -> Examples:
        images = torch.from_numpy(characters.images[numbers])[:, None]
        if split == "train" and self.augmentation.affine is not None:
            images = jitter(images, self.augmentation.affine, self.rng("train", index, f"augment{len(numbers)}"))
        per_class = len(numbers) // len(names)
        labels = torch.arange(len(names)).repeat_interleave(per_class)
        return Examples(images, labels, names=tuple(f"{names[i // per_class]}/{n}" for i, n in enumerate(numbers)))

    @cached_property
    def _background(self) -> Characters:
        return self.background()

    def _half(self, split: str) -> Characters:
        """Return the background alphabets that train, or those that validate: a test needs no valid validation."""
        background, count = self._background, len(self._background.alphabets)
        if self.val_alphabets >= count:
            raise ValueError(f"val_alphabets is {self.val_alphabets} but the background set has {count} alphabets")
        if split == "val":
            return self._checked(background.of_alphabets(list(range(count - self.val_alphabets, count))), "val")
        train = background.of_alphabets(list(range(count - self.val_alphabets)))
        train = with_symmetries(train, self.augmentation.quarter_turns, self.augmentation.mirror)
        _check_size(train, self.training, "train")
        return train

    def _checked(self, characters: Characters, split: str) -> Characters:
        _check_size(characters, TrainingTask(self.n_way, self.k_shot, self.n_query), split)
        return checked(characters, split, self.n_way) if self.within_alphabet else characters


def _check_size(characters: Characters, task: TrainingTask, split: str) -> None:
    if task.n_way > len(characters.drawings):
        raise ValueError(f"n_way is {task.n_way} but split {split!r} has {len(characters.drawings)} characters")
    need = task.k_shot + task.n_query
    for name, size in zip(characters.names, characters.drawings, strict=True):
        if size < need:
            raise ValueError(
                f"character {name!r} of split {split!r} has {size} drawings, but k_shot + n_query = "
                f"{task.k_shot} + {task.n_query} = {need} are needed"
            )
