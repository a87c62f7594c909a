"""AR ranking of VOT (Kristan et al. 2016, section 4.1): trackers' ranks by accuracy and robustness, averaged.

In each sequence trackers are ranked by their accuracy, and by their failures; the best has rank 1, and equal ones share
the mean of their ranks. A tracker's ranks are the means over sequences. Where frames are tagged ("occlusion", ...), the
same is done with attributes: accuracy is then of all frames with the tag, failures are those in such frames, and frames
without a tag are the attribute "unassigned".

VOT2013 and VOT2014 also share ranks between trackers whose difference is not significant. That is not done here: it
takes the paper's 15 repetitions. The intervals say how far ranks vary between sequences.

Shapes: A trackers, S sequences or attributes, T frames.
"""

from __future__ import annotations

import warnings
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_fewshot.metrics.estimate import Estimate, mean_interval
from lightning_fewshot.metrics.vot import Code, accuracy, after_burn_in
from lightning_fewshot.tracking.score_supervised import SupervisedScores, written
from lightning_fewshot.tracking.sequence import Sequence
from lightning_fewshot.tracking.trajectories import SupervisedResult

UNASSIGNED = "unassigned"


class Ranks(NamedTuple):
    """Mean ranks of one tracker; 1 is the best."""

    accuracy: Estimate
    robustness: Estimate


Rankings = dict[str, dict[str, Ranks]]


def ranks(values: Tensor) -> Tensor:
    """Return the rank of each of A values, the smallest first; equal ones share the mean of theirs.

    >>> ranks(torch.tensor([0.3, 0.1, 0.3, 0.7])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return 1 + below + (equal - 1) / 2


def rank_trackers(scores: dict[str, SupervisedScores], truth: dict[str, Sequence]) -> Rankings:
    """Return ``{"sequences": {tracker: Ranks}}``, and ``"attributes"`` where frames are tagged; else without it.

    Args:
        scores: Of each tracker; what not all have is left out, with a warning. Nothing is ranked below two trackers.
        truth: Sequences by plain name, with their tags.
    """
    sequences = [s for s in truth.values() if all(s.name in score.results for score in scores.values())]
    if len(scores) < 2 or not sequences:
        return {}
    if (lacking := len(set().union(*(score.results for score in scores.values()))) - len(sequences)) > 0:
        warnings.warn(f"the AR ranking leaves out {lacking} sequences that some tracker lacks", stacklevel=2)
    found = {"sequences": [[_of_sequence(score.results[s.name]) for s in sequences] for score in scores.values()]}
    names = list(dict.fromkeys(name for s in sequences for name, _ in s.tags))
    if names:
        tags = [_flags(s, names) for s in sequences]
        chosen = [a for a in range(len(names) + 1) if any(bool(flags[a].any()) for flags in tags)]
        found["attributes"] = [
            [
                _of_attribute([(score.results[s.name], f[a]) for s, f in zip(sequences, tags, strict=True)])
                for a in chosen
            ]
            for score in scores.values()
        ]
    return {basis: _mean_ranks(list(scores), torch.tensor(rows).double()) for basis, rows in found.items()}


def add_ranks(record: dict[str, Any], rankings: Rankings) -> None:
    """Write the ranks of each tracker into what results.json holds."""
    for basis, trackers in rankings.items():
        for name, found in trackers.items():
            values = {part: written(estimate) for part, estimate in found._asdict().items()}
            record["trackers"][name].setdefault("ranks", {})[basis] = values


def _of_sequence(results: list[SupervisedResult]) -> tuple[float, float]:
    """Return accuracy and failures, means over repetitions."""
    failures = [int((r.codes == Code.FAILURE).sum()) for r in results]
    return mean(accuracy(r.overlaps, r.codes) for r in results), mean(failures)


def _of_attribute(parts: list[tuple[list[SupervisedResult], Tensor]]) -> tuple[float, float]:
    """Return accuracy over the tagged frames of all sequences, and the failures in them."""
    kept = [r.overlaps[after_burn_in(r.codes) & flags] for results, flags in parts for r in results]
    failures = [mean(int(((r.codes == Code.FAILURE) & flags).sum()) for r in results) for results, flags in parts]
    overlaps = torch.cat(kept)
    return overlaps.mean().item() if len(overlaps) else 0.0, sum(failures)


def _flags(sequence: Sequence, names: list[str]) -> list[Tensor]:
    """Return ``(T,)`` bool of each tag, and of frames without any."""
    tags, none = dict(sequence.tags), torch.zeros(len(sequence.truth), dtype=torch.bool)
    found = [tags.get(name, none) for name in names]
    return [*found, ~torch.stack(found).any(0)]


def _mean_ranks(names: list[str], values: Tensor) -> dict[str, Ranks]:
    """Return the ranks of A trackers from accuracy and failures ``(A, S, 2)``."""
    by_accuracy = torch.stack([ranks(-column) for column in values[..., 0].T], 1)  # (A, S)
    by_failures = torch.stack([ranks(column) for column in values[..., 1].T], 1)
    limits = (1.0, float(len(names)))
    return {
        name: Ranks(mean_interval(a, limits), mean_interval(r, limits))
        for name, a, r in zip(names, by_accuracy, by_failures, strict=True)
    }
