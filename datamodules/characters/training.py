"""What a training episode of characters is: pairs (Learnet, section 3.2), or whole alphabets.

Another kind of episode, such as N ways with several queries each, is another subclass of ``CharacterTraining``.

Shapes: A alphabets, S support drawings, Q query drawings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from datamodules.characters.drawings import Characters, checked
from datamodules.characters.problems import PAIR_CLASSES


class DrawnBatch(NamedTuple):
    """Which drawings a training episode holds.

    Args:
        support: ``(S,)`` indices of drawings.
        query: ``(Q,)`` indices of drawings.
        support_labels: ``(S,)`` int64, or None where support drawings have no label of their own.
        query_labels: ``(Q,)`` int64.
        classes: What the labels mean.
        query_index: ``(S,)`` int64, the query that each support drawing belongs to; None: the support serves all.
    """

    support: np.ndarray
    query: np.ndarray
    support_labels: np.ndarray | None
    query_labels: np.ndarray
    classes: tuple[str, ...]
    query_index: np.ndarray | None = None


class CharacterTraining(ABC):
    """A kind of training episode: a frozen dataclass of settings, and how an episode is drawn."""

    protocol: str

    @abstractmethod
    def draw(self, characters: Characters, n_way: int, rng: np.random.Generator) -> DrawnBatch:
        """Draw one training episode."""

    @abstractmethod
    def check(self, characters: Characters, n_way: int) -> None:
        """Raise a ValueError that names what is too small if no episode can be drawn."""


@dataclass(frozen=True)
class PairBatch(CharacterTraining):
    """Pairs of two drawings, half of them of one character (Learnet, section 3.2).

    Args:
        pairs: Pairs of an episode.
        negatives: Incongruous pairs come from the same "alphabet", as in evaluation, or from "any".
    """

    pairs: int = 100
    negatives: Literal["alphabet", "any"] = "alphabet"
    protocol = "pairs"

    def __post_init__(self) -> None:
        if self.pairs < 2:
            raise ValueError(f"pairs is {self.pairs} but must be at least 2")
        if self.negatives not in ("alphabet", "any"):
            raise ValueError(f"negatives is {self.negatives!r} but must be 'alphabet' or 'any'")

    def draw(self, characters: Characters, n_way: int, rng: np.random.Generator) -> DrawnBatch:
        """Draw exemplars in support and inputs in query, pair by pair."""
        exemplars, inputs, labels = draw_pairs(characters, self.pairs, self.negatives, rng)
        return DrawnBatch(exemplars, inputs, None, labels, PAIR_CLASSES, query_index=np.arange(self.pairs))

    def check(self, characters: Characters, n_way: int) -> None:
        """Refuse an alphabet of one character."""
        checked(characters, "train", 2)


@dataclass(frozen=True)
class AlphabetBatch(CharacterTraining):
    """``n_way`` characters of each of some alphabets, two drawings of each: an exemplar and an input, in one order.

    Each input can then be compared with all exemplars of its alphabet: ``n_way`` times the comparisons of pairs, for
    the same drawings. Labels count within the alphabet.

    Args:
        alphabets: Alphabets of an episode, none of fewer than ``n_way`` characters.
    """

    alphabets: int = 5
    protocol = "alphabets"

    def __post_init__(self) -> None:
        if self.alphabets < 1:
            raise ValueError(f"alphabets is {self.alphabets} but must be at least 1")

    def draw(self, characters: Characters, n_way: int, rng: np.random.Generator) -> DrawnBatch:
        """Draw exemplars in support and inputs in query, alphabet by alphabet."""
        exemplars, inputs = draw_alphabets(characters, n_way, self.alphabets, rng)
        labels = np.tile(np.arange(n_way), self.alphabets)
        return DrawnBatch(exemplars, inputs, labels, labels, tuple(f"character {i}" for i in range(n_way)))

    def check(self, characters: Characters, n_way: int) -> None:
        """Refuse alphabets none of which has ``n_way`` characters."""
        checked(characters, "train", n_way if characters.characters.max() < n_way else 2)


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
