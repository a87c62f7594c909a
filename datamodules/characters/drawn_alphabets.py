"""Embedded alphabets of invented characters, so that Learnet runs without a download. Same interface as Omniglot."""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodules.characters.base import SIDE, CharacterPairs, Characters
from datamodules.characters.strokes import draw_hands, invent_alphabet, render, write_by_hand


class DrawnAlphabets(CharacterPairs):
    """Alphabets of strokes, written by drawers that differ in pose and pen. No alphabet is in two splits.

    Args:
        background_alphabets: Alphabets to train on and to hold out from, 30 as in Omniglot.
        evaluation_alphabets: Alphabets to test on, 20 as in Omniglot.
        fewest: Fewest characters of an alphabet.
        most: Most characters of an alphabet.
        drawers: Drawings of each character, 20 as in Omniglot.
        data_seed: Seed of the alphabets themselves; ``seed`` is that of the episodes.
        kwargs: See :class:`CharacterPairs`.

    Raises:
        ValueError: A count is below 1, or ``fewest`` above ``most``.
    """

    def __init__(
        self,
        background_alphabets: int = 30,
        evaluation_alphabets: int = 20,
        fewest: int = 20,
        most: int = 40,
        drawers: int = 20,
        data_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        counts = {
            "background_alphabets": background_alphabets,
            "evaluation_alphabets": evaluation_alphabets,
            "fewest": fewest,
            "drawers": drawers,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} is {count} but must be at least 1")
        if fewest > most:
            raise ValueError(f"fewest is {fewest} but most is {most}")
        self.alphabets = (background_alphabets, evaluation_alphabets)
        self.sizes, self.drawers, self.data_seed = (fewest, most), drawers, data_seed

    def background(self) -> Characters:
        """Return the alphabets to train on."""
        return self._draw(range(self.alphabets[0]))

    def evaluation(self) -> Characters:
        """Return the alphabets to test on."""
        return self._draw(range(self.alphabets[0], sum(self.alphabets)))

    def _draw(self, numbers: range) -> Characters:
        parts = [self._draw_alphabet(np.random.default_rng([self.data_seed, number])) for number in numbers]
        sizes = np.array([len(part) for part in parts])
        alphabets = tuple(f"alphabet{number:02d}" for number in numbers)
        return Characters(
            np.concatenate([part.reshape(-1, SIDE, SIDE) for part in parts]),
            alphabets,
            sizes,
            np.full(sizes.sum(), self.drawers),
            tuple(f"{a}/character{c + 1:02d}" for a, n in zip(alphabets, sizes, strict=True) for c in range(n)),
        )

    def _draw_alphabet(self, rng: np.random.Generator) -> np.ndarray:
        """Return ``(C, D, 28, 28)`` uint8."""
        control, strokes = invent_alphabet(int(rng.integers(self.sizes[0], self.sizes[1] + 1)), rng)
        hands = draw_hands(self.drawers, rng)
        return render(write_by_hand(control, hands, rng), strokes, hands.pen, SIDE)
