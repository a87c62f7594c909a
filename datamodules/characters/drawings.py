"""Drawings of characters in memory, sorted by alphabet and character.

Shapes: N drawings, C characters, A alphabets, S side of a drawing in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIDE = 28  # pixels, section 3.2 of Learnet


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
        kept = np.isin(np.repeat(np.arange(len(self.alphabets)), self.characters), chosen)
        names = tuple(n for n, keep in zip(self.names, kept, strict=True) if keep)
        images = self.images[np.repeat(kept, self.drawings)]
        alphabets = tuple(self.alphabets[i] for i in sorted(chosen))
        return Characters(images, alphabets, self.characters[sorted(chosen)], self.drawings[kept], names)


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
