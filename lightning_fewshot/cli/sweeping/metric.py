"""The value of a sweep's metric, read from what a run left in its folder."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path


def read_metric(folder: Path, name: str) -> float:
    """Return a metric of a finished run.

    Args:
        folder: The run's folder.
        name: ``<split>/<metric>``, as the logs have it. ``results.json`` holds the last split that was evaluated; the
            last row of ``metrics.csv`` that has the metric stands in for another split.

    Raises:
        ValueError: The run gave no such value.
    """
    path = folder / "results.json"
    try:
        record = json.loads(path.read_text())
        metrics = {f"{record['protocol']['split']}/{key}": entry["value"] for key, entry in record["metrics"].items()}
    except FileNotFoundError:
        raise ValueError(f"the run left no {path}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no results file: {error!r}") from error
    value = metrics.get(name) if name in metrics else _logged(folder / "metrics.csv", name)
    if value is None or not math.isfinite(value):
        raise ValueError(f"{path} has no number for {name}; it has {sorted(metrics)}")
    return value


def _logged(path: Path, name: str) -> float | None:
    if not path.is_file():
        return None
    with open(path, newline="") as file:
        values = [row[name] for row in csv.DictReader(file) if row.get(name)]
    return float(values[-1]) if values else None
