"""Drawn characters in memory: pairs to train on, recognition problems within an alphabet to evaluate on.

Learnet (Bertinetto et al., 2016), section 3.2. A batch is one gather from a uint8 array.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch

from datamodules.characters.affine import DrawingAugmentation, jitter
from datamodules.characters.drawings import Characters, checked, with_symmetries
from datamodules.characters.problems import draw_problems, problem_episode
from datamodules.characters.training import CharacterTraining, PairBatch
from lightning_fewshot.data import STAGES, EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples

TEST_SPLITS = ("test", "predict")  # what is predicted on is the first test episode


class CharacterPairs(EpisodicDataModule):
    """Episodes of characters. Subclasses write ``background()`` and ``evaluation()``.

    A training episode is a batch of pairs, or what else ``training`` says. A validation or test episode is a batch of
    recognition problems: an exemplar and ``n_way`` drawings of as many characters of the same alphabet, one of which
    shows the exemplar's character. Query images come exemplar by exemplar, labels are 1 where they are congruous.

    Args:
        n_way: Candidates of a recognition problem, and characters of an alphabet in ``AlphabetBatch``.
        training: What a training episode is: PairBatch, as in the paper, or AlphabetBatch, with its settings.
        augmentation: How training drawings are varied.
        problems: Recognition problems of a validation or test episode.
        val_alphabets: Background alphabets held out for validation, the last in alphabetical order that have ``n_way``
            characters. 0 trains on all of them, as the paper does, and validates on characters seen in training.
        episodes: Episodes of training (1000 of 100 pairs are the paper's 100,000), validation and test (500 of 20
            problems are 10,000).
        seed: Episode i of a split is a function of (seed, split, i) alone.
        num_workers: Processes that prepare episodes; a gather is quicker than a copy between processes, so 0.

    Raises:
        ValueError: An alphabet has fewer characters than ``n_way``, or a character has one drawing.
    """

    def __init__(
        self,
        n_way: int = 20,
        training: CharacterTraining = PairBatch(),
        augmentation: DrawingAugmentation = DrawingAugmentation(),
        problems: int = 20,
        val_alphabets: int = 5,
        episodes: EpisodeCounts = EpisodeCounts(1000, 50, 500),
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(n_way=n_way, k_shot=1, n_query=1, episodes=episodes, seed=seed, num_workers=num_workers)
        limits = {"n_way": (n_way, 2), "problems": (problems, 1), "val_alphabets": (val_alphabets, 0)}
        for name, (count, least) in limits.items():
            if count < least:
                raise ValueError(f"{name} is {count} but must be at least {least}")
        self.training = training
        self.augmentation = augmentation
        self.problems = problems
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

    def characters(self, split: str) -> Characters:
        """Return the drawings of a split, loaded once.

        Raises:
            ValueError: There is no such split, or it cannot make an episode.
        """
        if split not in self._splits:
            if split in TEST_SPLITS:
                self._splits |= dict.fromkeys(TEST_SPLITS, checked(self.evaluation(), "test", self.n_way))
            elif split in ("train", "val"):
                self._splits.update(self._train_and_val(self.background()))
            else:
                raise ValueError(f"split is {split!r} but {type(self).__name__} has train, val, test and predict")
        return self._splits[split]

    def episode(self, split: str, index: int) -> Episode:
        """Return a training episode ("train") or recognition problems."""
        characters = self.characters(split)
        if split == "train":
            return self._training_episode(characters, index)
        rng = self.rng("test" if split == "predict" else split, index)
        exemplars, candidates, matches = draw_problems(characters, self.n_way, self.problems, rng)
        return problem_episode(characters, exemplars, candidates, matches=matches, index=index)

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated: problems, alphabets, and whether training saw them."""
        characters = self.characters(split)
        return super().protocol(split) | {
            "task": f"{self.n_way}-way within-alphabet recognition, one exemplar",
            "problems": self.counts[split] * self.problems,
            "alphabets": list(characters.alphabets),
            "characters": len(characters.drawings),
            "seen_in_training": split == "train" or (split == "val" and self.val_alphabets == 0),
        }

    def _train_and_val(self, background: Characters) -> dict[str, Characters]:
        enough = np.flatnonzero(background.characters >= self.n_way)
        if not len(enough):
            checked(background, "val", self.n_way)
        if self.val_alphabets >= len(background.alphabets):
            raise ValueError(
                f"val_alphabets is {self.val_alphabets} but the background set has "
                f"{len(background.alphabets)} alphabets"
            )
        held_out = enough[-self.val_alphabets :].tolist() if self.val_alphabets else []
        train = background.of_alphabets([i for i in range(len(background.alphabets)) if i not in held_out])
        val = background.of_alphabets(held_out or enough.tolist())
        train = with_symmetries(train, self.augmentation.quarter_turns, self.augmentation.mirror)
        self.training.check(train, self.n_way)
        return {"train": train, "val": checked(val, "val", self.n_way)}

    def _training_episode(self, characters: Characters, index: int) -> Episode:
        batch = self.training.draw(characters, self.n_way, self.rng("train", index))
        images = torch.from_numpy(characters.images[np.concatenate([batch.support, batch.query])])[:, None]
        if self.augmentation.affine is not None:
            images = jitter(images, self.augmentation.affine, self.rng("train", index, "augment"))
        support, query = images[: len(batch.support)], images[len(batch.support) :]
        labels, query_labels, query_index = (
            None if numbers is None else torch.from_numpy(numbers)
            for numbers in (batch.support_labels, batch.query_labels, batch.query_index)
        )
        return Episode(
            Examples(support, labels, query_index=query_index),
            Examples(query, query_labels),
            batch.classes,
            index,
            protocol=self.training.protocol,
        )
