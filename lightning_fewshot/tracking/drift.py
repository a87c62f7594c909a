"""How trackers drift: for each sequence, how long the object was held, when it was lost, and what the tracker knew.

A tracker that loses its object while its own score of the true box stays high has searched elsewhere; where that score
has fallen, it no longer knows the object. A tracker that calls its object found while boxes and truth do not overlap
learns from the background.

Shapes: T frames.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.files import write_atomically
from lightning_fewshot.metrics.gathering import gather_rows
from lightning_fewshot.metrics.one_pass import paired_iou
from lightning_fewshot.tracking.loop import Track

COLUMNS = (
    *("sequence", "repeat", "frames", "share_overlapping", "first_loss", "mean_iou"),
    *("mean_score", "score_at_truth", "share_truth_scored", "share_called_found"),
)


def drift(track: Track, target: Tensor) -> dict[str, Any]:
    """Describe one track; frames where the object is absent do not count.

    Args:
        track: Of a whole sequence.
        target: ``(T', 4)``, NaN where the object is absent.

    Returns:
        - ``frames`` that count,
        - ``share_overlapping`` of them, with an IoU above 0,
        - ``first_loss``, the number of the first frame without (None: the object was never lost),
        - ``mean_iou``,

        and of the frames after the first one, where nothing is searched; None where nothing is known:

        - ``mean_score`` that the tracker returned,
        - ``score_at_truth``, its mean score of the true box, over the frames where it searches there,
        - ``share_truth_scored``, the share of those frames,
        - ``share_called_found``, the share of the frames in which the tracker itself called the object found.

    >>> target = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).expand(4, 4)
    >>> boxes, ones, nan = target.clone(), torch.ones(4), torch.nan
    >>> boxes[2:] += 50
    >>> at_truth, found = torch.tensor([nan, 3.0, 2.0, -torch.inf]), torch.tensor([nan, 1.0, 1.0, 0.0])
    >>> row = drift(Track(boxes, ones, ones, ones, at_truth, found), target)
    >>> row["share_overlapping"], row["first_loss"]
    (0.5, 2)
    >>> row["score_at_truth"], row["share_truth_scored"], row["share_called_found"]
    (2.5, 0.6667, 0.6667)
    """
    target = target.double().cpu()
    overlaps = paired_iou(_as_long(track.boxes, target), target).nan_to_num(0.0)
    present = target.isfinite().all(1)
    lost = (present & (overlaps <= 0)).nonzero()[:, 0]
    later = present.clone()
    later[:1] = False
    scores, at_truth, found = (
        _as_long(values, target[:, 0])[later] for values in (track.scores, track.truth_scores, track.found)
    )
    return {
        "frames": int(present.sum()),
        "share_overlapping": _mean(overlaps[present] > 0),
        "first_loss": int(lost[0]) if len(lost) else None,
        "mean_iou": _mean(overlaps[present]),
        "mean_score": _mean(scores),
        "score_at_truth": _mean(at_truth[at_truth.isfinite()]),
        "share_truth_scored": _mean(at_truth[~at_truth.isnan()].isfinite()),
        "share_called_found": _mean(found[~found.isnan()]),
    }


def _as_long(values: Tensor | None, like: Tensor) -> Tensor:
    """Return values of frames as many as there are in ``like``, NaN where there is none."""
    padded = torch.full_like(like, torch.nan)
    if values is not None:
        padded[: len(values)] = values[: len(like)].double().cpu()
    return padded


def _mean(values: Tensor) -> float | None:
    return round(values.double().mean().item(), 4) if len(values) else None


def write_report(rows: list[dict[str, Any]], path: Path, is_global_zero: bool) -> None:
    """Write the rows of all processes into one table, in order of sequences and seeds.

    Args:
        rows: Of this process.
        path: Of the csv file.
        is_global_zero: Whether this process writes.
    """
    everything = gather_rows(rows)
    if not is_global_zero or not everything:
        return
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    unique = {(row["sequence"], row["repeat"]): row for row in everything}  # processes may share a sequence
    table.writerows(unique[key] for key in sorted(unique))
    write_atomically(path, text.getvalue())
