"""Every metric of every evaluated episode, so that two runs can be compared over the same episodes."""

from __future__ import annotations

import math
from typing import Any

import torch.distributed

from lightning_fewshot.episodes import Episode
from lightning_fewshot.module import FewShotModule

Key = tuple[str, int]  # what the episode is called, and its number where several are called so
SEQUENCES = ("one_pass", "supervised")  # protocols in which an episode is a video with a name
DIGITS = 6


class EpisodeValues:
    """The metrics of a module, computed from one episode at a time.

    An episode is called by its number, a video to track by its name; one that is tracked several times has the mean.
    Batches of a closed set are no episodes: their images count one by one.
    """

    def __init__(self) -> None:
        self._values: dict[Key, list[dict[str, float]]] = {}

    def add(self, module: FewShotModule, preds: Any, episode: Episode) -> None:
        """Take the metrics of an episode."""
        if episode.protocol == "batch":
            return
        self._values.setdefault(_key(episode), []).append(module.values_of(episode, preds))

    def collect(self, names: list[str]) -> dict[str, dict[str, float | None]]:
        """Return ``{metric: {episode: value}}`` of all processes, and forget it; None where it is not defined.

        Args:
            names: The metrics to keep.
        """
        values, self._values = _gathered(self._values), {}
        means = {key: _mean(values[key]) for key in sorted(values, key=_order)}
        labels = _labels(list(means))
        table = {name: {labels[key]: row.get(name) for key, row in means.items()} for name in names}
        return {name: rows for name, rows in table.items() if any(value is not None for value in rows.values())}


def _key(episode: Episode) -> Key:
    number = episode.class_ids[0] if episode.class_ids and episode.protocol in SEQUENCES else episode.index
    is_named = episode.protocol in SEQUENCES and episode.query.names
    return (episode.query.names[0] if is_named else str(episode.index), number)


def _order(key: Key) -> int:
    return key[1]


def _labels(keys: list[Key]) -> dict[Key, str]:
    """Return one label for each key; of several with one name the later ones carry a number."""
    counts: dict[str, int] = {}
    labels = {}
    for key in keys:
        counts[key[0]] = counts.get(key[0], 0) + 1
        labels[key] = key[0] if counts[key[0]] == 1 else f"{key[0]} ({counts[key[0]]})"
    return labels


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over repetitions, without those that are not finite."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row[name] for row in rows if math.isfinite(row.get(name, math.nan))] for name in names}
    return {name: round(sum(column) / len(column), DIGITS) for name, column in columns.items() if column}


def _gathered(values: dict[Key, list[dict[str, float]]]) -> dict[Key, list[dict[str, float]]]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, values)
    merged: dict[Key, list[dict[str, float]]] = {}
    for part in parts:
        for key, rows in part.items():
            merged.setdefault(key, []).extend(rows)
    return merged
