"""The value of a sweep's metric, read from what a run left in its folder."""

from __future__ import annotations

from pathlib import Path

from lightning_fewshot.metric_rows import finite, read_metric_rows
from lightning_fewshot.text import read_json


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
    if not path.is_file():
        raise ValueError(f"the run left no {path}")
    try:
        record = read_json(path)
        metrics = {f"{record['protocol']['split']}/{key}": entry["value"] for key, entry in record["metrics"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no results file: {error!r}") from error
    value = finite(metrics[name]) if name in metrics else _logged(folder / "metrics.csv", name)
    if value is None:
        raise ValueError(f"{path} has no number for {name}; it has {sorted(metrics)}")
    return value


def _logged(path: Path, name: str) -> float | None:
    if not path.is_file():
        return None
    values = [row[name] for row in read_metric_rows(path)[1] if row.get(name)]
    return finite(values[-1]) if values else None
