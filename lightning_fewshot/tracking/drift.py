"""How trackers drift: for each sequence, how long the object was held, and when it was lost first.

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

COLUMNS = ("sequence", "repeat", "frames", "share_found", "first_loss", "mean_iou", "mean_score")


def drift(boxes: Tensor, scores: Tensor, target: Tensor) -> dict[str, Any]:
    """Describe one track.

    Args:
        boxes: ``(T, 4)``.
        scores: ``(T,)``, the tracker's.
        target: ``(T', 4)``, NaN where the object is absent: such frames do not count.

    Returns:
        ``frames`` that count, the share of them with IoU above 0, the number of the first frame without (None: the
        object was never lost), mean IoU and mean score.

    >>> target = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).expand(4, 4)
    >>> boxes = target.clone()
    >>> boxes[2:] += 50
    >>> found = drift(boxes, torch.ones(4), target)
    >>> found["share_found"], found["first_loss"]
    (0.5, 2)
    """
    target = target.double().cpu()
    padded = torch.full_like(target, torch.nan)
    padded[: len(boxes)] = boxes[: len(target)].double().cpu()
    present = target.isfinite().all(1)
    overlaps = paired_iou(padded, target).nan_to_num(0.0)
    lost = (present & (overlaps <= 0)).nonzero()[:, 0]
    return {
        "frames": int(present.sum()),
        "share_found": round((overlaps[present] > 0).double().mean().item(), 4),
        "first_loss": int(lost[0]) if len(lost) else None,
        "mean_iou": round(overlaps[present].mean().item(), 4),
        "mean_score": round(scores.double().mean().item(), 4),
    }


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
