"""``python -m lightning_fewshot score DIR --benchmark otb --root R``: score anybody's raw result files.

``DIR`` holds the files of one tracker (``<sequence>.txt``, one line ``x,y,w,h`` a frame), or a folder of such files for
each tracker. Written into the run folder: ``results.json`` and, where matplotlib is there, ``success.png``,
``precision.png`` and ``norm_precision.png`` with the trackers' names ordered by their score. Where times stand beside
the boxes, ``fps`` is the mean of 1 / time as the got10k toolkit has it; a ``test`` reports frames over seconds instead.
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
from lightning_fewshot.metrics.estimate import Estimate, mean_interval
from lightning_fewshot.metrics.one_pass import Curves, one_pass_curves
from lightning_fewshot.tracking import benchmarks
from lightning_fewshot.tracking.box_files import polygons_to_xywh, read_boxes

SCHEMA = "lightning_fewshot/tracking_scores/1"
SCORES = ("success_auc", "precision_20", "norm_precision_auc")


class Scored(NamedTuple):
    """One sequence of one tracker: its curves, its attributes, and frames per second where times are known."""

    curves: Curves
    attributes: tuple[str, ...]
    fps: float | None


def main(args: Sequence[str], make_run_dir: Callable[[str | None], Path]) -> Path:
    """Score, print the table, write the files; return the folder that they are in.

    Args:
        args: The command's arguments.
        make_run_dir: Makes the folder for ``--run_dir``.
    """
    from lightning_fewshot.tracking.score_plots import print_table, write_plots

    options = _parser().parse_args(args)
    truth = {benchmarks.plain_name(s.name): s for s in benchmarks.read_benchmark(options.benchmark, options.root)}
    trackers = find_trackers(Path(options.results))
    scored = {name: score_folder(folder, truth) for name, folder in trackers.items()}
    run_dir = make_run_dir(options.run_dir)
    record = make_record(scored, options.benchmark, str(options.root), len(truth))
    write_atomically(run_dir / "results.json", json.dumps(record, indent=1, allow_nan=False))
    print_table(record)
    write_plots(scored, options.benchmark, run_dir)
    print(f"run: {run_dir}")
    return run_dir


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_fewshot score", description="Score raw result files by one-pass evaluation."
    )
    parser.add_argument("results", help="Folder of <sequence>.txt files, or of one such folder for each tracker.")
    parser.add_argument("--benchmark", choices=list(benchmarks.BENCHMARKS), required=True, help="The test set.")
    parser.add_argument("--root", required=True, help="Folder of the test set with its truth.")
    parser.add_argument("--run_dir", default=None, help="Where to write; made if missing.")
    return parser


def find_trackers(folder: Path) -> dict[str, Path]:
    """Return the folder of each tracker's files by the tracker's name.

    Raises:
        FileNotFoundError: There is no result file.
    """
    if any(folder.glob("*.txt")):
        return {folder.resolve().name: folder}
    found = {path.name: path for path in sorted(folder.iterdir()) if any(path.glob("*.txt"))} if folder.is_dir() else {}
    if not found:
        raise FileNotFoundError(f"{folder} holds no result file <sequence>.txt, and no folder of them")
    return found


def score_folder(folder: Path, truth: dict[str, benchmarks.Sequence]) -> dict[str, Scored]:
    """Score all sequences of one tracker; files that are no sequence of the benchmark are named in a warning.

    Args:
        folder: Of ``<sequence>.txt``.
        truth: Sequences by their plain name.

    Raises:
        ValueError: No file is a sequence of the benchmark, or one cannot be read.
    """
    files = {benchmarks.plain_name(path.stem): path for path in sorted(folder.glob("*.txt"))}
    unknown = sorted(files[name].name for name in files.keys() - truth.keys())
    if len(unknown) == len(files):
        raise ValueError(f"none of the {len(files)} files in {folder} is a sequence of the benchmark: {unknown[0]}")
    if unknown:
        warnings.warn(f"{folder.name}: {', '.join(unknown)} are no sequences of the benchmark", stacklevel=2)
    missing = [s.name for name, s in truth.items() if name not in files]
    if missing:
        warnings.warn(
            f"{folder.name} lacks {len(missing)} of {len(truth)} sequences: {', '.join(missing[:5])}", stacklevel=2
        )
    return {s.name: score_sequence(files[name], s) for name, s in truth.items() if name in files}


def score_sequence(path: Path, sequence: benchmarks.Sequence) -> Scored:
    """Score one result file against the truth."""
    boxes_xywh, target_xywh = align(read_boxes(path), sequence)
    curves = one_pass_curves(xywh_to_xyxy(boxes_xywh), xywh_to_xyxy(target_xywh))
    return Scored(curves, sequence.attributes, _speed(path))


def align(boxes_xywh: Tensor, sequence: benchmarks.Sequence) -> tuple[Tensor, Tensor]:
    """Return boxes and truth of the same frames, ``(T, 4)`` each.

    A tracker that was run on all images, where the truth starts at a later one, has that many boxes more; they are
    dropped. Where the numbers differ otherwise, the first frames of both count, with a warning.
    """
    target = sequence.truth if sequence.truth.shape[1] == 4 else polygons_to_xywh(sequence.truth)
    before = (sequence.first or 1) - 1
    if before and len(boxes_xywh) == len(target) + before:
        boxes_xywh = boxes_xywh[before:]
    if len(boxes_xywh) != len(target):
        count = min(len(boxes_xywh), len(target))
        warnings.warn(
            f"{sequence.name} has {len(boxes_xywh)} boxes but {len(target)} truths: the first {count} count",
            stacklevel=2,
        )
        boxes_xywh, target = boxes_xywh[:count], target[:count]
    return boxes_xywh, target


def _speed(path: Path) -> float | None:
    """Mean of 1 / time over frames, as the got10k toolkit reports it; None where no times stand beside the boxes."""
    times = path.parent / "times" / f"{path.stem}_time.txt"
    if not times.is_file():
        return None
    seconds = np.loadtxt(times, delimiter=",", ndmin=1)
    seconds = seconds[seconds > 0]
    return float((1 / seconds).mean()) if len(seconds) else None


def make_record(scored: dict[str, dict[str, Scored]], benchmark: str, root: str, total: int) -> dict[str, Any]:
    """Return what results.json holds."""
    return {
        "schema": SCHEMA,
        "protocol": {"benchmark": benchmark, "root": root, "evaluation": "one-pass", "sequences": total},
        "trackers": {name: _tracker_record(sequences) for name, sequences in scored.items()},
    }


def _tracker_record(sequences: dict[str, Scored]) -> dict[str, Any]:
    rows = {name: s.curves.scores | ({"fps": s.fps} if s.fps else {}) for name, s in sequences.items()}
    attributes = sorted({a for s in sequences.values() for a in s.attributes})
    return {
        "metrics": _means(list(rows.values()), (*SCORES, "fps")),
        "attributes": {
            a: _means([rows[n] for n, s in sequences.items() if a in s.attributes], SCORES) for a in attributes
        },
        "sequences": rows,
    }


def _means(rows: list[dict[str, float]], names: Sequence[str]) -> dict[str, Any]:
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: _written(mean_interval(torch.tensor(column).double())) for name, column in columns.items() if column}


def _written(estimate: Estimate) -> dict[str, Any]:
    interval = [v if v == v else None for v in (estimate.low, estimate.high)]  # nan is not equal to itself
    return {"value": estimate.value, "ci95": interval, "n": estimate.n}
