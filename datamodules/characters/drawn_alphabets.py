"""Embedded alphabets of invented characters, so that Learnet runs without a download. Same interface as Omniglot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.characters.base import CharacterPairs
from datamodules.characters.drawings import SIDE, Characters
from datamodules.characters.strokes import draw_hands, invent_alphabet, render, write_by_hand


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
        return self._draw(range(self.alphabets.background))

    def evaluation(self) -> Characters:
        """Return the alphabets to test on."""
        return self._draw(range(self.alphabets.background, self.alphabets.background + self.alphabets.evaluation))

    def _draw(self, numbers: range) -> Characters:
        parts = [self._draw_alphabet(np.random.default_rng([self.alphabets.seed, number])) for number in numbers]
        sizes = np.array([len(part) for part in parts])
        alphabets = tuple(f"alphabet{number:02d}" for number in numbers)
        return Characters(
            np.concatenate([part.reshape(-1, SIDE, SIDE) for part in parts]),
            alphabets,
            sizes,
            np.full(sizes.sum(), self.alphabets.drawers),
            tuple(f"{a}/character{c + 1:02d}" for a, n in zip(alphabets, sizes, strict=True) for c in range(n)),
        )

    def _draw_alphabet(self, rng: np.random.Generator) -> np.ndarray:
        """Return ``(C, D, 28, 28)`` uint8."""
        control, strokes = invent_alphabet(int(rng.integers(self.alphabets.fewest, self.alphabets.most + 1)), rng)
        hands = draw_hands(self.alphabets.drawers, rng)
        return render(write_by_hand(control, hands, rng), strokes, hands.pen, SIDE)
