"""Recognition problems within an alphabet (section 3.2 of Learnet), as episodes.

Shapes: P exemplars, m candidates of each.
"""

from __future__ import annotations

import numpy as np
import torch

from datamodules.characters.drawings import Characters
from lightning_fewshot.episodes import Episode, Examples

PAIR_CLASSES = ("incongruous", "congruous")


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
    owners = np.repeat(np.arange(len(characters.drawings)), characters.drawings)
    support, query = (
        Examples(
            torch.from_numpy(characters.images[chosen])[:, None],
            names=tuple(f"{characters.names[owners[i]]}/{i}" for i in chosen),
        )
        for chosen in (exemplars, candidates.reshape(-1))
    )
    query = query._replace(labels=torch.from_numpy(labels.reshape(-1)))
    return Episode(support, query, PAIR_CLASSES, index, protocol="problems")
