"""Drawn characters in memory: pairs to train on, recognition problems within an alphabet to evaluate on.

Learnet (Bertinetto et al., 2016), section 3.2. A batch is one gather from a uint8 array.

Shapes: N drawings, C characters, A alphabets, P exemplars, m candidates, S side of a drawing in pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from datamodules.characters.affine import AffineJitter, jitter
from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples

PAIR_CLASSES = ("incongruous", "congruous")
SIDE = 28  # pixels, section 3.2


class Characters(NamedTuple):
    """Drawings, sorted by alphabet and character.

    Args:
        images: ``(N, S, S)`` uint8, black ink on white.
        alphabets: Name of each alphabet, A.
        characters: ``(A,)`` number of characters of each alphabet.
        drawings: ``(C,)`` number of drawings of each character.
        names: Name of each character, C.
    """

    images: np.ndarray
    alphabets: tuple[str, ...]
    characters: np.ndarray
    drawings: np.ndarray
    names: tuple[str, ...]

    def of_alphabets(self, chosen: list[int]) -> Characters:
        """Return the part that belongs to some alphabets."""
        of_character = np.isin(np.repeat(np.arange(len(self.alphabets)), self.characters), chosen)
        names = tuple(n for n, keep in zip(self.names, of_character, strict=True) if keep)
        images = self.images[np.repeat(of_character, self.drawings)]
        alphabets = tuple(self.alphabets[i] for i in sorted(chosen))
        return Characters(images, alphabets, self.characters[sorted(chosen)], self.drawings[of_character], names)


class CharacterPairs(EpisodicDataModule):
    """Episodes of characters. Subclasses write ``background()`` and ``evaluation()``.

    A training episode is a batch of pairs, half of them congruous. A validation or test episode is a batch of
    recognition problems: an exemplar and ``n_way`` drawings of as many characters of the same alphabet, one of which
    shows the exemplar's character. Query images come exemplar by exemplar, labels are 1 where they are congruous.

    With ``train: alphabets`` a training episode shows ``n_way`` characters of each of some alphabets, two drawings of
    each: an exemplar in support, an input in query, in one order. Each input can then be compared with all exemplars of
    its alphabet: ``n_way`` times the comparisons of pairs, for the same drawings. Labels count within the alphabet.

    Args:
        n_way: Candidates of a recognition problem.
        train: "pairs", as in the paper, or "alphabets".
        pairs: Pairs of a training episode (the batch).
        train_alphabets: Alphabets of a training episode, under "alphabets"; none of fewer than ``n_way`` characters.
        problems: Recognition problems of a validation or test episode.
        episodes: Episodes of training (1000 of 100 pairs are the paper's 100,000), validation and test (500 of 20
            problems are 10,000).
        val_alphabets: Background alphabets held out for validation, the last in alphabetical order that have ``n_way``
            characters. 0 trains on all of them, as the paper does, and validates on characters seen in training.
        negatives: Incongruous pairs come from the same "alphabet", as in evaluation, or from "any".
        quarter_turns: Train on alphabets turned by 90, 180 and 270 degrees too, as alphabets of their own.
        mirror: Train on the mirror images of all these too, likewise.
        augment: Small random affine maps of the training drawings; None leaves them as they are.
        seed: Episode i of a split is a function of (seed, split, i) alone.
        num_workers: Processes that prepare episodes; a gather is quicker than a copy between processes, so 0.

    Raises:
        ValueError: An alphabet has fewer characters than ``n_way``, or a character has one drawing.
    """

    def __init__(
        self,
        n_way: int = 20,
        train: Literal["pairs", "alphabets"] = "pairs",
        pairs: int = 100,
        train_alphabets: int = 5,
        problems: int = 20,
        episodes: EpisodeCounts = EpisodeCounts(1000, 50, 500),
        val_alphabets: int = 5,
        negatives: Literal["alphabet", "any"] = "alphabet",
        quarter_turns: bool = False,
        mirror: bool = False,
        augment: AffineJitter | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(n_way=n_way, k_shot=1, n_query=1, episodes=episodes, seed=seed, num_workers=num_workers)
        for name, count, least in (
            ("n_way", n_way, 2),
            ("pairs", pairs, 2),
            ("train_alphabets", train_alphabets, 1),
            ("problems", problems, 1),
        ):
            if count < least:
                raise ValueError(f"{name} is {count} but must be at least {least}")
        if train not in ("pairs", "alphabets"):
            raise ValueError(f"train is {train!r} but must be 'pairs' or 'alphabets'")
        if val_alphabets < 0:
            raise ValueError(f"val_alphabets is {val_alphabets} but must be at least 0")
        if negatives not in ("alphabet", "any"):
            raise ValueError(f"negatives is {negatives!r} but must be 'alphabet' or 'any'")
        self.train, self.pairs, self.train_alphabets = train, pairs, train_alphabets
        self.problems, self.val_alphabets = problems, val_alphabets
        self.negatives, self.augment = negatives, augment
        self.quarter_turns, self.mirror = quarter_turns, mirror
        self._splits: dict[str, Characters] = {}

    @abstractmethod
    def background(self) -> Characters:
        """Return the alphabets to train on, and to hold out from."""

    @abstractmethod
    def evaluation(self) -> Characters:
        """Return the alphabets to test on."""

    def setup(self, stage: str | None = None) -> None:
        """Load what a stage needs, before worker processes are forked."""
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            self.characters(split)

    def characters(self, split: str) -> Characters:
        """Return the drawings of a split, loaded once.

        Raises:
            ValueError: There is no such split, or it cannot make an episode.
        """
        if split not in self._splits:
            if split == "test":
                self._splits["test"] = checked(self.evaluation(), "test", self.n_way)
            elif split in ("train", "val"):
                self._splits.update(self._train_and_val(self.background()))
            else:
                raise ValueError(f"split is {split!r} but {type(self).__name__} has train, val and test")
        return self._splits[split]

    def episode(self, split: str, index: int) -> Episode:
        """Return a training batch ("train") or recognition problems."""
        characters = self.characters(split)
        if split == "train":
            return self._training_batch(characters, index)
        exemplars, candidates, matches = draw_problems(characters, self.n_way, self.problems, self.rng(split, index))
        return problem_episode(characters, exemplars, candidates, matches, index)

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
        train = with_symmetries(train, self.quarter_turns, self.mirror)
        if self.train == "alphabets" and train.characters.max() < self.n_way:
            checked(train, "train", self.n_way)
        return {"train": checked(train, "train", 2), "val": checked(val, "val", self.n_way)}

    def _training_batch(self, characters: Characters, index: int) -> Episode:
        rng = self.rng("train", index)
        if self.train == "pairs":
            exemplars, inputs, labels = draw_pairs(characters, self.pairs, self.negatives, rng)
            classes, own = PAIR_CLASSES, None
        else:
            exemplars, inputs = draw_alphabets(characters, self.n_way, self.train_alphabets, rng)
            labels = np.tile(np.arange(self.n_way), self.train_alphabets)
            classes, own = tuple(f"character {i}" for i in range(self.n_way)), torch.from_numpy(labels)
        images = torch.from_numpy(characters.images[np.concatenate([exemplars, inputs])])[:, None]
        if self.augment is not None:
            images = jitter(images, self.augment, self.rng("train", index, "augment"))
        support, query = images[: len(labels)], images[len(labels) :]
        query = Examples(query, torch.from_numpy(labels))
        return Episode(Examples(support, own), query, classes, index, protocol=self.train)


def draw_pairs(
    characters: Characters, count: int, negatives: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw pairs of two different drawings, every second pair of the same character.

    Returns:
        Indices ``(count,)`` of exemplars and of inputs, and labels ``(count,)`` int64, 1 for congruous.
    """
    labels = np.arange(1, count + 1) % 2
    character = rng.integers(len(characters.drawings), size=count)
    first = np.cumsum(characters.characters) - characters.characters  # (A,) first character of each alphabet
    alphabet = np.repeat(np.arange(len(first)), characters.characters)[character]
    start, among = first[alphabet], characters.characters[alphabet]
    if negatives == "any":
        start, among = np.zeros_like(start), np.full_like(among, len(characters.drawings))
    other = start + (character - start + rng.integers(1, among)) % among  # never the character itself
    begin = np.cumsum(characters.drawings) - characters.drawings
    drawing = rng.integers(characters.drawings[character])
    second = (drawing + rng.integers(1, characters.drawings[character])) % characters.drawings[character]
    elsewhere = begin[other] + rng.integers(characters.drawings[other])
    return begin[character] + drawing, np.where(labels == 1, begin[character] + second, elsewhere), labels


def draw_alphabets(
    characters: Characters, n_way: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``n_way`` characters of each of ``count`` alphabets, and two different drawings of each character.

    Characters are equally likely, as in pairs; an alphabet may be drawn twice.

    Returns:
        Indices ``(count * n_way,)`` of exemplars and of inputs, alphabet by alphabet.
    """
    first = np.cumsum(characters.characters) - characters.characters  # (A,) first character of each alphabet
    likely = np.where(characters.characters >= n_way, characters.characters, 0)
    chosen = rng.choice(len(first), count, p=likely / likely.sum())
    drawn = [first[a] + rng.choice(characters.characters[a], n_way, replace=False) for a in chosen]
    character = np.concatenate(drawn)
    begin, many = (np.cumsum(characters.drawings) - characters.drawings)[character], characters.drawings[character]
    drawing = rng.integers(many)
    return begin + drawing, begin + (drawing + rng.integers(1, many)) % many


def draw_problems(
    characters: Characters, n_way: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw recognition problems: an alphabet, ``n_way`` of its characters, a drawing of each, an exemplar of one.

    Alphabets are equally likely; the exemplar is another drawing than the match.

    Returns:
        Indices of exemplars ``(count,)`` and candidates ``(count, n_way)``, and the place ``(count,)`` of the match.
    """
    alphabet = rng.integers(len(characters.alphabets), size=count)
    first = np.cumsum(characters.characters) - characters.characters
    keys = rng.random((count, characters.characters.max()))
    keys[np.arange(keys.shape[1]) >= characters.characters[alphabet][:, None]] = 2  # sorts after all that exist
    chosen = first[alphabet][:, None] + keys.argsort(1)[:, :n_way]  # (count, n_way) characters
    begin = np.cumsum(characters.drawings) - characters.drawings
    drawing = rng.integers(characters.drawings[chosen])
    match = rng.integers(n_way, size=count)
    character, used = (np.take_along_axis(part, match[:, None], 1)[:, 0] for part in (chosen, drawing))
    other = (used + rng.integers(1, characters.drawings[character])) % characters.drawings[character]
    return begin[character] + other, begin[chosen] + drawing, match


def problem_episode(
    characters: Characters, exemplars: np.ndarray, candidates: np.ndarray, matches: np.ndarray, index: int
) -> Episode:
    """Return P problems as an episode: P exemplars in support, ``P * m`` candidates in query."""
    labels = np.zeros(candidates.shape, dtype=np.int64)
    np.put_along_axis(labels, matches[:, None], 1, axis=1)
    of = np.repeat(np.arange(len(characters.drawings)), characters.drawings)
    support, query = (
        Examples(
            torch.from_numpy(characters.images[chosen])[:, None],
            names=tuple(f"{characters.names[of[i]]}/{i}" for i in chosen),
        )
        for chosen in (exemplars, candidates.reshape(-1))
    )
    query = query._replace(labels=torch.from_numpy(labels.reshape(-1)))
    return Episode(support, query, PAIR_CLASSES, index, protocol="problems")


def with_symmetries(characters: Characters, quarter_turns: bool, mirror: bool) -> Characters:
    """Add every alphabet turned by 90, 180 and 270 degrees, its mirror image, or both, each as an alphabet of its own.

    A name says what was done: "Greek@90" is turned, "Greek~" mirrored, "Greek~@90" first mirrored, then turned.
    """
    kinds = [(flip, turn) for flip in range(1 + mirror) for turn in range(4 if quarter_turns else 1)]
    marks = ["~" * flip + f"@{90 * turn}" * (turn > 0) for flip, turn in kinds]
    images = (characters.images, characters.images[:, :, ::-1])
    return Characters(
        np.concatenate([np.rot90(images[flip], turn, axes=(1, 2)) for flip, turn in kinds]),
        tuple(name + mark for mark in marks for name in characters.alphabets),
        np.tile(characters.characters, len(kinds)),
        np.tile(characters.drawings, len(kinds)),
        tuple(name + mark for mark in marks for name in characters.names),
    )


def checked(characters: Characters, split: str, least: int) -> Characters:
    """Return the drawings if every alphabet and every character is large enough.

    Raises:
        ValueError: Names the alphabet or character, its size and what is needed.
    """
    for name, size in zip(characters.alphabets, characters.characters, strict=True):
        if size < least:
            raise ValueError(f"alphabet {name!r} of split {split!r} has {size} characters, but {least} are needed")
    for name, size in zip(characters.names, characters.drawings, strict=True):
        if size < 2:
            raise ValueError(f"character {name!r} of split {split!r} has {size} drawing, but a pair needs 2")
    return characters
