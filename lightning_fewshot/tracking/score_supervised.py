"""Scores of raw results of VOT's supervised experiment: accuracy, robustness, EAO, with ``metrics.vot``."""

from __future__ import annotations

import math
from statistics import mean
from typing import Any, NamedTuple

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.estimate import Estimate
from lightning_fewshot.metrics.vot import EAO_BOUNDS, Code, Supervised, accuracy
from lightning_fewshot.tracking.box_files import as_polygons
from lightning_fewshot.tracking.sequence import Sequence
from lightning_fewshot.tracking.trajectories import SupervisedResult, Trajectory, supervised_result

UNKNOWN = (math.inf, math.inf)


class SupervisedScores(NamedTuple):
    """The repetitions of each sequence of one tracker, and its metrics."""

    results: dict[str, list[SupervisedResult]]
    estimates: dict[str, Estimate]


def score_supervised(
    read: dict[str, list[Trajectory]], truth: dict[str, Sequence], bounds: tuple[int, int] = EAO_BOUNDS["VOT2015"]
) -> SupervisedScores:
    """Score one tracker; all repetitions of a sequence count, as in vot-toolkit.

    Args:
        read: Trajectories by plain name.
        truth: Sequences by plain name.
        bounds: Least and greatest length of the EAO.
    """
    metric, results = Supervised(bounds), {}
    for index, (name, sequence) in enumerate(truth.items()):
        polygons = sequence.truth if sequence.truth.shape[1] == 8 else as_polygons(sequence.truth)
        size = frame_size(sequence)
        results[sequence.name] = [supervised_result(trajectory, polygons, size) for trajectory in read[name]]
        for result in results[sequence.name]:
            metric.update(result, Episode(None, None, (), index, class_ids=(index,)))
    return SupervisedScores(results, {n: e for n, e in metric.compute().items() if not math.isnan(e.value)})


def frame_size(sequence: Sequence) -> tuple[float, float]:
    """Return height and width of the first image; infinite where the set holds the truth alone."""
    try:
        height, width = sequence.frames()[0].shape[1:]
    except (FileNotFoundError, ValueError):
        return UNKNOWN
    return height, width


def supervised_record(scores: SupervisedScores) -> dict[str, Any]:
    """Return what results.json says about one tracker."""
    rows = {
        name: {
            "accuracy": mean(accuracy(result.overlaps, result.codes) for result in results),
            "failures": mean(int((result.codes == Code.FAILURE).sum()) for result in results),
            "frames": len(results[0].codes),
            "repetitions": len(results),
        }
        for name, results in scores.results.items()
    }
    metrics = {name: written(estimate) for name, estimate in scores.estimates.items()}
    return {"evaluation": "supervised", "metrics": metrics, "sequences": rows}


def written(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as json holds it: null for what is not known."""
    interval = [v if math.isfinite(v) else None for v in (estimate.low, estimate.high)]
    return {"value": estimate.value, "ci95": interval, "n": estimate.n}
