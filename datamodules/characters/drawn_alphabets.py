"""Embedded alphabets of invented characters, so that Learnet runs without a download. Same interface as Omniglot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.characters.base import CharacterPairs
from datamodules.characters.drawings import SIDE, Characters
from datamodules.characters.strokes import draw_hands, invent_alphabet, render, write_by_hand
from datamodules.characters.tasks import CharacterTasks


@dataclass(frozen=True)
class AlphabetSettings:
    """Which alphabets are invented.

    Args:
        background: Alphabets to train on and to hold out from, 30 as in Omniglot.
        evaluation: Alphabets to test on, 20 as in Omniglot.
        fewest: Fewest characters of an alphabet.
        most: Most characters of an alphabet.
        drawers: Drawings of each character, 20 as in Omniglot.
        seed: Seed of the alphabets themselves; the data's ``seed`` is that of the episodes.

    Raises:
        ValueError: A count is below 1, or ``fewest`` above ``most``.
    """

    background: int = 30
    evaluation: int = 20
    fewest: int = 20
    most: int = 40
    drawers: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("background", "evaluation", "fewest", "drawers"):
            if getattr(self, name) < 1:
                raise ValueError(f"alphabets.{name} is {getattr(self, name)} but must be at least 1")
        if self.fewest > self.most:
            raise ValueError(f"alphabets.fewest is {self.fewest} but alphabets.most is {self.most}")


class DrawnAlphabets(CharacterPairs):
    """Alphabets of strokes, written by drawers that differ in pose and pen. No alphabet is in two splits.

    Args:
        alphabets: Which alphabets are invented.
        options: See :class:`CharacterPairs`.
    """

    def __init__(self, alphabets: AlphabetSettings = AlphabetSettings(), **options: Any) -> None:
        super().__init__(**options)
        self.alphabets = alphabets

    def background(self) -> Characters:
        """Return the alphabets to train on."""
        return draw_background(self.alphabets)

    def evaluation(self) -> Characters:
        """Return the alphabets to test on."""
        return draw_evaluation(self.alphabets)


class DrawnAlphabetTasks(CharacterTasks):
    """The same alphabets as few-shot tasks of several shots and queries.

    Args:
        alphabets: Which alphabets are invented.
        options: See :class:`CharacterTasks`.
    """

    def __init__(self, alphabets: AlphabetSettings = AlphabetSettings(), **options: Any) -> None:
        super().__init__(**options)
        self.alphabets = alphabets

    def background(self) -> Characters:
        """Return the alphabets to train on."""
        return draw_background(self.alphabets)

    def evaluation(self) -> Characters:
        """Return the alphabets to test on."""
        return draw_evaluation(self.alphabets)


def draw_background(settings: AlphabetSettings) -> Characters:
    """Draw the alphabets to train on."""
    return _draw(settings, range(settings.background))


def draw_evaluation(settings: AlphabetSettings) -> Characters:
    """Draw the alphabets to test on."""
    return _draw(settings, range(settings.background, settings.background + settings.evaluation))


def _draw(settings: AlphabetSettings, numbers: range) -> Characters:
    parts = [_draw_alphabet(settings, np.random.default_rng([settings.seed, number])) for number in numbers]
    sizes = np.array([len(part) for part in parts])
    alphabets = tuple(f"alphabet{number:02d}" for number in numbers)
    return Characters(
        np.concatenate([part.reshape(-1, SIDE, SIDE) for part in parts]),
        alphabets,
        sizes,
        np.full(sizes.sum(), settings.drawers),
        tuple(f"{a}/character{c + 1:02d}" for a, n in zip(alphabets, sizes, strict=True) for c in range(n)),
    )


def _draw_alphabet(settings: AlphabetSettings, rng: np.random.Generator) -> np.ndarray:
    """Return ``(C, D, 28, 28)`` uint8."""
    control, strokes = invent_alphabet(int(rng.integers(settings.fewest, settings.most + 1)), rng)
    hands = draw_hands(settings.drawers, rng)
    return render(write_by_hand(control, hands, rng), strokes, hands.pen, SIDE)
