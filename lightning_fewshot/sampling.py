"""Which classes and items make up episode i, decided without touching an image.

An episode plan is a pure function of (seed, split, i): not of the worker, the rank, the batch size, or what was
drawn before. A published episode list is a file of plans and is used as it is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_fewshot.files import write_atomically
from lightning_fewshot.text import read_json


class EpisodePlan(NamedTuple):
    """What an episode is made of, by name: ``support[i]`` and ``query[i]`` are the items drawn for ``classes[i]``."""

    classes: tuple[str, ...]
    support: tuple[tuple[Hashable, ...], ...]
    query: tuple[tuple[Hashable, ...], ...]


def episode_rng(seed: int, split: str, index: int, stream: str = "") -> np.random.Generator:
    """Return the generator of episode ``index`` of a split; ``stream`` separates independent uses within it.

    >>> float(episode_rng(0, "test", 7).random()) == float(episode_rng(0, "test", 7).random())
    True
    >>> float(episode_rng(0, "test", 7).random()) == float(episode_rng(0, "val", 7).random())
    False
    """
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index, zlib.crc32(stream.encode())])


def shares_of(sources: Sequence[Any], shares: Sequence[float] | None) -> np.ndarray:
    """Return the share of each of several sources of training items, ``(n,)`` that sums to 1.

    Args:
        sources: What is mixed.
        shares: One a source, at least 0, in any unit; None: the same for each.

    Raises:
        ValueError: There is no source, or the shares do not fit.

    >>> shares_of(["a", "b"], [3.0, 1.0]).tolist()
    [0.75, 0.25]
    """
    if not sources:
        raise ValueError("sources is empty but must name at least one set")
    shares = [1.0] * len(sources) if shares is None else list(shares)
    if len(shares) != len(sources) or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError(f"shares is {shares} but must hold a share of at least 0 for each of {len(sources)} sources")
    return np.array(shares) / sum(shares)


class EpisodeSampler:
    """Draw N classes, Q query and K support items of each; ``sampler[i]`` is episode i.

    The queries of all classes are drawn before any support, so that ``k_shot`` does not change the questions.

    Args:
        items: The items of each class. An item may belong to several classes (a photo with several objects):
            within one episode it is used once, and never in both support and query.
        n_way: Classes of an episode.
        k_shot: Support items of each class.
        n_query: Query items of each class.
        seed: Seed of the whole list of episodes.
        split: Name of the split, part of the seed and of every error.

    Raises:
        ValueError: More ways than classes, or a class with too few items, naming both numbers.
    """

    def __init__(
        self,
        items: Mapping[str, Sequence[Hashable]],
        n_way: int,
        k_shot: int,
        n_query: int,
        seed: int,
        split: str,
    ) -> None:
        self.items, self.seed, self.split = dict(items), seed, split
        self.n_way, self.k_shot, self.n_query = n_way, k_shot, n_query
        self.names = sorted(self.items)
        self._check()

    def __getitem__(self, index: int) -> EpisodePlan:
        """Return the plan of episode ``index`` (any integer >= 0; the list has no end)."""
        rng = self._rng(index, "plan")
        classes = [self.names[c] for c in rng.choice(len(self.names), self.n_way, replace=False)]
        orders = {name: [self.items[name][j] for j in rng.permutation(len(self.items[name]))] for name in classes}
        used: set[Hashable] = set()
        query = {name: self._take(name, orders[name], self.n_query, used) for name in classes}
        support = [self._take(name, orders[name], self.k_shot, used, query[name]) for name in classes]
        return EpisodePlan(tuple(classes), tuple(support), tuple(query.values()))

    def _rng(self, index: int, stream: str) -> np.random.Generator:
        return episode_rng(self.seed, self.split, index, stream)

    def _take(
        self, name: str, order: Sequence[Hashable], count: int, used: set[Hashable], queries: tuple[Hashable, ...] = ()
    ) -> tuple[Hashable, ...]:
        """Take the first items of a class that the episode does not use yet, and note them in ``used``."""
        free = [item for item in order if item not in used]
        if len(free) < count:
            need = self.k_shot + self.n_query
            raise ValueError(
                f"class {name!r} of split {self.split!r} has {len(free) + len(queries)} items left that other classes "
                f"of the episode do not use, but k_shot + n_query = {self.k_shot} + {self.n_query} = {need} are needed"
            )
        used.update(free[:count])
        return tuple(free[:count])

    def _check(self) -> None:
        if min(self.n_way, self.k_shot) < 1 or self.n_query < 0:
            raise ValueError(
                f"n_way and k_shot must be at least 1 and n_query at least 0, "
                f"got {self.n_way}, {self.k_shot} and {self.n_query}"
            )
        if self.n_way > len(self.names):
            raise ValueError(f"n_way is {self.n_way} but split {self.split!r} has {len(self.names)} classes")
        need = self.k_shot + self.n_query
        for name in self.names:
            if len(self.items[name]) < need:
                raise ValueError(
                    f"class {name!r} of split {self.split!r} has {len(self.items[name])} items, "
                    f"but k_shot + n_query = {self.k_shot} + {self.n_query} = {need} are needed"
                )


class Clusters(NamedTuple):
    """Clusters of the training images in a model's embedding, to draw batches of neighbours from.

    Args:
        owner: ``(n,)`` the cluster of each training image, in [0, C), or -1: of none.
        weights: ``(C,)`` how often a cluster is a batch's seed, in any unit; all 0: equally often.
        distances: ``(C, C)``, infinite between two clusters of one class and where a cluster has no image.
    """

    owner: np.ndarray
    weights: np.ndarray
    distances: np.ndarray

    def draw_neighbours(self, count: int, rng: np.random.Generator) -> list[int]:
        """Draw a seed cluster by weight; return it and its nearest clusters of other classes, ``count`` at most.

        >>> apart = np.array([[np.inf, 3.0, 1.0], [3.0, np.inf, np.inf], [1.0, np.inf, np.inf]])
        >>> Clusters(np.array([0, 1, 2]), np.array([1.0, 0, 0]), apart).draw_neighbours(3, np.random.default_rng(0))
        [0, 2, 1]
        """
        has_images = np.bincount(self.owner[self.owner >= 0], minlength=len(self.weights)) > 0
        weights = np.where(has_images, self.weights, 0.0)
        weights = weights if weights.sum() > 0 else has_images.astype(float)
        seed = int(rng.choice(len(weights), p=weights / weights.sum()))
        nearest = np.argsort(self.distances[seed], kind="stable")[: count - 1]
        return [seed, *(int(c) for c in nearest if np.isfinite(self.distances[seed, c]))]


def write_episodes(path: str | Path, plans: Sequence[EpisodePlan], **protocol: object) -> None:
    """Write plans and what they were drawn with as one JSON file, whole or not at all."""
    record = {"schema": "lightning_fewshot/episodes/1", "protocol": protocol, "episodes": [p._asdict() for p in plans]}
    write_atomically(path, json.dumps(record))


def read_episodes(path: str | Path) -> list[EpisodePlan]:
    """Read the plans that :func:`write_episodes` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or is no episode list; names the episode.
    """
    try:
        record = read_json(path)
    except ValueError as error:
        raise ValueError(f"episode list {path} is truncated or not an episode list: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("episodes"), list):
        raise ValueError(f"episode list {path} is truncated or not an episode list: it has no list 'episodes'")
    return [_plan(entry, f"episode list {path}: episode {i}") for i, entry in enumerate(record["episodes"])]


def _plan(entry: Any, place: str) -> EpisodePlan:
    """Check an entry of a list: names of classes, and for each of them items of support and query."""
    parts = [entry.get(name) if isinstance(entry, dict) else None for name in EpisodePlan._fields]
    if not all(isinstance(part, list) for part in parts):
        raise ValueError(
            f"{place} is not an episode list of this kind: it has no lists 'classes', 'support' and 'query'"
        )
    classes, *rows = parts
    if not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{place} has classes that are no names: {str(classes)[:80]}")
    for name, part in zip(("support", "query"), rows, strict=True):
        if len(part) != len(classes):
            raise ValueError(f"{place} has {len(classes)} classes but {len(part)} rows of {name}")
        for label, row in zip(classes, part, strict=True):
            if not isinstance(row, list) or not row or not all(isinstance(item, (str, int)) for item in row):
                raise ValueError(f"{place}: {name} of class {label!r} is no list of items: {str(row)[:80]}")
    return EpisodePlan(tuple(classes), *(tuple(map(tuple, part)) for part in rows))
