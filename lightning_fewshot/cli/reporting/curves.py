"""Learning curves from ``metrics.csv`` and success plots from the results of trackers."""

from __future__ import annotations

from pathlib import Path

from lightning_fewshot.cli.reporting.plots import Line, line_plot
from lightning_fewshot.cli.runs import Run
from lightning_fewshot.metric_rows import finite, read_metric_rows

X = ("step", "epoch")
PRECISION_PIXELS = 50  # the precision plot ends there


def learning_curves(runs: list[Run]) -> list[str]:
    """Return one plot for each logged number, with a line for every run that logged it at least twice."""
    by_key: dict[str, list[Line]] = {}
    for number, run in enumerate(runs):
        for key, (x, y) in logged_numbers(run.folder / "metrics.csv").items():
            if len(x) > 1:
                by_key.setdefault(key, []).append(Line(number, run.name, x, y))
    return [line_plot(key, "training step", by_key[key]) for key in sorted(by_key, key=_order)]


def success_plots(runs: list[Run]) -> list[str]:
    """Return the success and the precision plot of the runs whose results hold ``curves``.

    ``curves`` is ``{"success": [21 shares], "precision": [51 shares]}``, as the benchmarks have them.
    """
    plots = []
    for name, x_label, end in (
        ("success", "overlap threshold", 1.0),
        ("precision", "centre error, px", PRECISION_PIXELS),
    ):
        lines = []
        for number, run in enumerate(runs):
            y = (run.record.get("curves") or {}).get(name) or []
            x = [end * i / (len(y) - 1) for i in range(len(y))] if len(y) > 1 else []
            lines += [Line(number, run.name, x, y)] if x else []
        if lines:
            plots.append(line_plot(f"{name}, share of frames", x_label, lines, limits=(0.0, 1.0)))
    return plots


def logged_numbers(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Return ``{key: (steps, values)}`` of a ``metrics.csv``; a line that a killed run left half written is skipped."""
    numbers: dict[str, tuple[list[float], list[float]]] = {}
    if not path.is_file():
        return numbers
    for row in read_metric_rows(path)[1]:
        step = finite(row.get("step"))
        for key, text in row.items():
            value = finite(text)
            if key and key not in X and not key.startswith("test/") and step is not None and value is not None:
                x, y = numbers.setdefault(key, ([], []))
                x.append(step)
                y.append(value)
    return numbers


def _order(key: str) -> tuple[int, str]:
    """Validation first, then training losses, then the rest."""
    ranks = [i for i, start in enumerate(("val/", "train/loss", "train/")) if key.startswith(start)]
    return (ranks[0] if ranks else 3, key)
