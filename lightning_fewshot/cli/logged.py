"""Logged runs as rows, for tables and notebooks: of run folders, or of a W&B project.

``read_runs("runs")`` reads folders; ``read_runs("entity/project")`` asks W&B, where ``fit`` and ``test`` leave the same
results in a run's summary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fewshot.cli.records import SCHEMA
from lightning_fewshot.cli.reporting.curves import logged_numbers
from lightning_fewshot.cli.runs import Run, Runs, find_runs

RESULTS = "_results"  # a summary holds val_results and test_results
PROTOCOL = ("n_way", "k_shot", "n_query", "seed")


def read_runs(where: str | Path) -> Runs:
    """Return the finished runs below a folder or of a W&B project.

    Args:
        where: A folder, or the path of a project, ``entity/project``.

    Raises:
        FileNotFoundError: There is no such folder, and it is no path of a project.
        ValueError: W&B has no such project, or cannot be asked.
    """
    if Path(where).is_dir():
        return find_runs([Path(where)])
    if str(where).strip("/").count("/") != 1 or str(where).startswith(("/", ".")):
        raise FileNotFoundError(f"there is no folder {where}; a W&B project is entity/project")
    return _of_project(str(where))


def result_rows(runs: Runs) -> list[dict[str, Any]]:
    """Return a row a metric and run: what was run, the value, its 95 % interval and the number of episodes."""
    return [row for run in runs.found for row in _rows(run)]


def training_curve(run: Run, key: str = "train/loss") -> tuple[list[float], list[float]]:
    """Return the steps and values of a logged number of a run folder; empty lists where there are none."""
    return logged_numbers(run.folder / "metrics.csv").get(key, ([], []))


def _rows(run: Run) -> list[dict[str, Any]]:
    about = {"run": run.name, **{key: run.look_up(key, None) for key in ("experiment", "model", "data", "split")}}
    about |= {key: run.look_up(key, None) for key in PROTOCOL}
    rows = []
    for name, metric in run.metrics.items():
        low, high = metric["ci95"]
        rows.append({**about, "metric": name, "value": metric["value"], "low": low, "high": high, "n": metric["n"]})
    return rows


def _of_project(path: str) -> Runs:
    import wandb

    runs = Runs()
    try:
        logged = list(wandb.Api().runs(path))
    except Exception as error:  # W&B's own errors, and those of the network, have no common class
        raise ValueError(f"W&B has no project {path}, or cannot be asked: {error}") from error
    for run in logged:
        results = {split: run.summary.get(f"{split}{RESULTS}") for split in ("test", "val")}
        split = next((name for name, metrics in results.items() if metrics), None)
        if split is None:
            runs.problems.append(f"{path}/{run.name} has no results: it was killed, or still runs")
            continue
        runs.found.append(
            Run(run.name, Path(run.name), _record(run, split, dict(results[split])), dict(run.config), 0.0)
        )
    runs.found.sort(key=lambda run: run.name)
    return runs


def _record(run: Any, split: str, metrics: dict[str, Any]) -> dict[str, Any]:
    groups = {name: run.config.get(name) or {} for name in ("model", "data")}
    settings = groups["data"].get("init_args") or {}
    classes = {name: str(group.get("class_path", "")).rpartition(".")[2] for name, group in groups.items()}
    protocol = {"split": split, **{key: settings.get(key) for key in PROTOCOL}}
    plain = {name: {**metric, "ci95": list(metric["ci95"])} for name, metric in metrics.items()}
    return {"schema": SCHEMA, "experiment": run.group or run.name, **classes, "protocol": protocol, "metrics": plain}
