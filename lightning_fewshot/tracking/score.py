"""``python -m lightning_fewshot score DIR --benchmark otb --root R``: score anybody's raw result files.

``DIR`` holds the files of one tracker or of several, in the layouts of ``result_layouts``. Written into the run folder:
``results.json`` and, where matplotlib is there, ``success.png``, ``precision.png`` and ``norm_precision.png`` with the
trackers' names ordered by their score; of supervised results of VOT ``accuracy_robustness.png``, and of several
trackers' ``ar_ranking_sequences.png`` and, where frames are tagged, ``ar_ranking_attributes.png``. Where times stand
beside the boxes, ``fps`` is the mean of 1 / time as the got10k toolkit has it; a ``test`` reports frames over seconds.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_fewshot.boxes import xywh_to_xyxy
from lightning_fewshot.files import write_atomically
from lightning_fewshot.metrics.estimate import mean_interval
from lightning_fewshot.metrics.one_pass import COUNTS, Curves, frame_counts, one_pass_curves, pooled_scores
from lightning_fewshot.metrics.vot import EAO_BOUNDS
from lightning_fewshot.tracking import benchmarks
from lightning_fewshot.tracking.ar_ranking import add_ranks, rank_trackers
from lightning_fewshot.tracking.box_files import polygons_to_xywh, read_lines
from lightning_fewshot.tracking.result_layouts import Results, find_results, time_file, write_archives
from lightning_fewshot.tracking.score_supervised import SupervisedScores, score_supervised, supervised_record, written
from lightning_fewshot.tracking.sequence import Sequence as Benchmark
from lightning_fewshot.tracking.sequence import plain_name
from lightning_fewshot.tracking.trajectories import Trajectory, read_trajectory

SCHEMA = "lightning_fewshot/tracking_scores/1"
SHOWN = 5  # names in a message
ONE_PASS_EXPERIMENTS = ("unsupervised", "longterm")  # of vot-toolkit: the code of the start stands in the first line
SCORES = ("success_auc", "precision_20", "norm_precision_auc")


class Scored(NamedTuple):
    """One sequence of one tracker: its curves, attributes, frames per second where known, and ``COUNTS``."""

    curves: Curves
    attributes: tuple[str, ...]
    fps: float | None
    counts: Tensor


def main(args: Sequence[str], make_run_dir: Callable[[str | None], Path]) -> Path:
    """Score, print the table, write the files; return the folder that they are in.

    Args:
        args: The command's arguments.
        make_run_dir: Makes the folder for ``--run_dir``.
    """
    from lightning_fewshot.tracking.score_plots import print_table, write_ar_plot, write_plots, write_ranking_plots

    options = _parser().parse_args(args)
    folder = Path(options.results).resolve()
    truth = {plain_name(s.name): s for s in benchmarks.read_benchmark(options.benchmark, options.root)}
    results = checked_results(folder, truth)
    bounds = EAO_BOUNDS[options.eao]
    scored = {tracker: score_files(files, truth, tracker, bounds) for tracker, files in results.items()}
    run_dir = make_run_dir(options.run_dir)
    record = make_record(scored, options.benchmark, str(options.root), len(truth))
    supervised = {n: s for n, s in scored.items() if isinstance(s, SupervisedScores)}
    add_ranks(record, rank_trackers(supervised, truth))
    write_atomically(run_dir / "results.json", json.dumps(record, indent=1, allow_nan=False))
    print_table(record)
    write_plots({n: s for n, s in scored.items() if isinstance(s, dict)}, options.benchmark, run_dir)
    write_ar_plot(record, run_dir)
    write_ranking_plots(record, run_dir)
    if options.archive is not None:
        write_archives(results, {plain: s.name for plain, s in truth.items()}, Path(options.archive))
    print(f"run: {run_dir}")
    return run_dir


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_fewshot score", description="Score raw result files by one-pass evaluation."
    )
    parser.add_argument("results", help="Folder of <sequence>.txt files, or of one such folder for each tracker.")
    parser.add_argument("--benchmark", choices=list(benchmarks.BENCHMARKS), required=True, help="The test set.")
    parser.add_argument("--root", required=True, help="Folder of the test set with its truth.")
    parser.add_argument("--eao", choices=list(EAO_BOUNDS), default="VOT2015", help="Whose bounds VOT's EAO has.")
    parser.add_argument("--archive", default=None, help="Write the zip file that GOT-10k's server takes.")
    parser.add_argument("--run_dir", default=None, help="Where to write; made if missing.")
    return parser


def checked_results(folder: Path, truth: dict[str, Benchmark]) -> Results:
    """Find the result files of each tracker; files and sequences without a counterpart are named in a warning.

    Raises:
        FileNotFoundError: There is no result file.
        ValueError: No file is a sequence of the benchmark.
    """
    results, unknown = find_results(folder, truth)
    if not results:
        count, first = len(unknown), unknown[0].name
        raise ValueError(f"none of the {count} files in {folder} is a sequence of the benchmark: {first}")
    if unknown:
        names = ", ".join(path.name for path in unknown[:SHOWN])
        warnings.warn(f"{folder.name}: {names} are no sequences of the benchmark ({len(unknown)} files)", stacklevel=2)
    for tracker, files in results.items():
        if missing := [s.name for name, s in truth.items() if name not in files]:
            shown = ", ".join(missing[:SHOWN])
            warnings.warn(f"{tracker} lacks {len(missing)} of {len(truth)} sequences: {shown}", stacklevel=2)
    return results


def score_files(
    files: dict[str, list[Path]],
    truth: dict[str, Benchmark],
    tracker: str = "",
    bounds: tuple[int, int] = EAO_BOUNDS["VOT2015"],
) -> dict[str, Scored] | SupervisedScores:
    """Score the sequences of one tracker: by VOT's supervised evaluation where it was started again, else in one pass.

    Args:
        files: Result files by plain name; several of a sequence are repetitions, whose scores are averaged.
        truth: Sequences by plain name.
        tracker: Its name; that of vot-toolkit's "unsupervised" experiment says that nothing was started again.
        bounds: Least and greatest length of the EAO.
    """
    known = {name: s for name, s in truth.items() if name in files}
    read = {name: [read_trajectory(path) for path in files[name]] for name in known}
    restarted = any(t.supervised for group in read.values() for t in group)
    if restarted and tracker.rpartition("/")[2] not in ONE_PASS_EXPERIMENTS:
        return score_supervised(read, known, bounds)
    speeds = {name: speed(files[name][0]) for name in known}
    return {s.name: score_sequence(read[name], s, speeds[name]) for name, s in known.items()}


def score_sequence(trajectories: list[Trajectory], sequence: Benchmark, fps: float | None = None) -> Scored:
    """Score the repetitions of one sequence against the truth."""
    curves, counts = [], []
    for trajectory in trajectories:
        boxes, target = (xywh_to_xyxy(part) for part in align(trajectory.boxes_xywh(), sequence))
        curves.append(one_pass_curves(boxes, target))
        counts.append(frame_counts(boxes, target))
    means = Curves(*(torch.stack(parts).mean(0) for parts in zip(*curves, strict=True)))
    return Scored(means, sequence.attributes, fps, torch.stack(counts).mean(0))


def align(boxes_xywh: Tensor, sequence: Benchmark) -> tuple[Tensor, Tensor]:
    """Return boxes and truth of the same frames, ``(T, 4)`` each.

    A tracker that was run on all images, where the truth starts at a later one, has that many boxes more; they are
    dropped. Other boxes beyond the truth do not count, with a warning; fewer boxes than truths are misses, with one.
    """
    target = sequence.truth if sequence.truth.shape[1] == 4 else polygons_to_xywh(sequence.truth)
    before = (sequence.first or 1) - 1
    if before and len(boxes_xywh) == len(target) + before:
        boxes_xywh = boxes_xywh[before:]
    if len(boxes_xywh) != len(target):
        lacking = len(target) - len(boxes_xywh)
        what = f"{lacking} frames without a box are misses" if lacking > 0 else f"the first {len(target)} count"
        warnings.warn(f"{sequence.name} has {len(boxes_xywh)} boxes but {len(target)} truths: {what}", stacklevel=2)
    padded = torch.full_like(target, torch.nan)
    padded[: len(boxes_xywh)] = boxes_xywh[: len(target)]
    return padded, target


def speed(path: Path) -> float | None:
    """Mean of 1 / time over frames, as the got10k toolkit reports it; None where no times stand beside the boxes."""
    times = time_file(path)
    if times is None:
        return None
    words = [word for line, _ in read_lines(times) for word in line.replace(",", " ").split()]
    try:
        seconds = np.array([float(word) for word in words])
    except ValueError as error:
        raise ValueError(f"{times} holds something that is no time: {error}") from error
    seconds = seconds[np.isfinite(seconds) & (seconds > 0)]
    return float((1 / seconds).mean()) if len(seconds) else None


def make_record(scored: dict[str, Any], benchmark: str, root: str, total: int) -> dict[str, Any]:
    """Return what results.json holds."""
    return {
        "schema": SCHEMA,
        "protocol": {"benchmark": benchmark, "root": root, "sequences": total},
        "trackers": {
            name: _tracker_record(s) if isinstance(s, dict) else supervised_record(s) for name, s in scored.items()
        },
    }


def _tracker_record(sequences: dict[str, Scored]) -> dict[str, Any]:
    rows = {
        name: s.curves.scores
        | ({"fps": s.fps} if s.fps else {})
        | {name: float(count) for name, count in zip(COUNTS[:2], s.counts.tolist(), strict=False)}
        for name, s in sequences.items()
    }
    pooled = pooled_scores(torch.stack([s.counts for s in sequences.values()]))
    attributes = sorted({a for s in sequences.values() for a in s.attributes})
    return {
        "evaluation": "one-pass",
        "metrics": _means(list(rows.values()), (*SCORES, "fps")) | {name: written(e) for name, e in pooled.items()},
        "attributes": {
            a: _means([rows[n] for n, s in sequences.items() if a in s.attributes], SCORES) for a in attributes
        },
        "sequences": rows,
    }


def _means(rows: list[dict[str, float]], names: Sequence[str]) -> dict[str, Any]:
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: written(mean_interval(torch.tensor(column).double())) for name, column in columns.items() if column}
