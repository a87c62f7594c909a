"""The table and the plots of scored trackers, best first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lightning_fewshot.metrics.one_pass import PRECISION_AT, THRESHOLDS, Curves

PLOTS = (
    ("success", "overlap threshold", "share of frames"),
    ("precision", "centre error, pixels", "share of frames"),
    ("norm_precision", "centre error, sizes of the object", "share of frames"),
)
MARKERS = "osD^v<>Ph*X"
RANKED_BY = {"one-pass": "success_auc", "supervised": "accuracy"}


def print_table(record: dict[str, Any]) -> None:
    """Print one line a tracker, the best success first; of several supervised trackers their ranks too."""
    for evaluation in ("one-pass", "supervised"):
        trackers = {name: t for name, t in record["trackers"].items() if t["evaluation"] == evaluation}
        if trackers:
            title = f"{record['protocol']['benchmark']}, {evaluation} evaluation"
            Console().print(_table(trackers, title, RANKED_BY[evaluation]))
    if ranked := {name: t["ranks"] for name, t in record["trackers"].items() if "ranks" in t}:
        Console().print(_ranks_table(ranked, f"{record['protocol']['benchmark']}, AR ranking, 1 is the best"))


def _table(trackers: dict[str, Any], title: str, ranked_by: str) -> Table:
    table = Table(title=title)
    table.add_column("tracker", overflow="fold", no_wrap=True)
    rows = {name: dict(_cell(*metric) for metric in tracker["metrics"].items()) for name, tracker in trackers.items()}
    names = list(dict.fromkeys(column for row in rows.values() for column in row))
    for column in (*names, "sequences"):
        table.add_column(column, justify="right")
    for name, tracker in sorted(trackers.items(), key=lambda item: -item[1]["metrics"][ranked_by]["value"]):
        cells = [rows[name].get(column, "-") for column in names]
        table.add_row(name, *cells, str(tracker["metrics"][ranked_by]["n"]))
    return table


def _cell(name: str, estimate: dict[str, Any]) -> tuple[str, str]:
    """Return column and cell of a metric; EAO has one column, and its bounds below the value."""
    value = estimate["value"]
    text = "-" if value is None else f"{value:.4f}" if value <= 1 else f"{value:.1f}"
    head, _, bounds = name.partition("_")
    return ("eao", f"{text}\n{bounds.replace('_', ' to ')}") if head == "eao" else (name, text)


def _ranks_table(trackers: dict[str, Any], title: str) -> Table:
    table = Table(title=title)
    table.add_column("tracker", overflow="fold", no_wrap=True)
    columns = [(basis, part) for basis in next(iter(trackers.values())) for part in ("accuracy", "robustness")]
    for basis, part in columns:
        table.add_column(f"{part}, mean over {basis}", justify="right")
    for name, ranks in sorted(trackers.items(), key=lambda item: item[1]["sequences"]["accuracy"]["value"]):
        table.add_row(name, *(f"{ranks[basis][part]['value']:.2f}" for basis, part in columns))
    return table


def write_plots(scored: dict[str, dict[str, Any]], title: str, folder: Path) -> list[Path]:
    """Draw the three curves, and success for each attribute; nothing where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print("no plots: matplotlib is not installed")
        return []

    def draw(number: int, sequences: dict[str, list[Curves]], path: Path, heading: str) -> Path:
        _, below, beside = PLOTS[number]
        figure = Figure(figsize=(6, 5))
        axes = figure.add_subplot(xlabel=below, ylabel=beside, title=heading, ylim=(0, 1))
        means = {tracker: torch.stack([c[number] for c in curves]).mean(0) for tracker, curves in sequences.items()}
        for tracker, curve in sorted(means.items(), key=lambda item: -_score(number, item[1])):
            axes.plot(THRESHOLDS[number], curve, label=f"{tracker} [{_score(number, curve):.3f}]")
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
        FigureCanvasAgg(figure).print_png(path)
        return path

    if not scored:
        return []
    everything = {tracker: [s.curves for s in of.values()] for tracker, of in scored.items()}
    written = [
        draw(i, everything, folder / f"{name}.png", f"{name} of OPE, {title}") for i, (name, *_) in enumerate(PLOTS)
    ]
    for attribute in sorted({a for of in scored.values() for s in of.values() for a in s.attributes}):
        chosen = {t: [s.curves for s in of.values() if attribute in s.attributes] for t, of in scored.items()}
        chosen = {t: curves for t, curves in chosen.items() if curves}
        count = max(map(len, chosen.values()))
        heading = f"success of OPE, {title}, {attribute} ({count})"
        written.append(draw(0, chosen, folder / f"success_{attribute}.png", heading))
    return written


def write_ar_plot(record: dict[str, Any], folder: Path) -> Path | None:
    """Draw accuracy over robustness of supervised results; nothing without any."""
    trackers = {name: t["metrics"] for name, t in record["trackers"].items() if t["evaluation"] == "supervised"}
    labels = {"xlabel": "robustness: chance to track 30 frames", "ylabel": "accuracy: mean overlap"}
    return _scatter(
        {name: (metrics["robustness"], metrics["accuracy"]) for name, metrics in trackers.items()},
        folder / "accuracy_robustness.png",
        {"xlim": (0, 1), "ylim": (0, 1), "title": f"AR, {record['protocol']['benchmark']}", **labels},
    )


def write_ranking_plots(record: dict[str, Any], folder: Path) -> list[Path]:
    """Draw mean ranks by accuracy over those by robustness, the best at the upper right; nothing below two trackers."""
    paths = []
    for basis in ("sequences", "attributes"):
        ranks = {name: t["ranks"][basis] for name, t in record["trackers"].items() if basis in t.get("ranks", {})}
        points = {name: (rank["robustness"], rank["accuracy"]) for name, rank in ranks.items()}
        count = next(iter(ranks.values()))["accuracy"]["n"] if ranks else 0
        ends = (len(points) + 0.5, 0.5)
        title = f"AR ranking, {record['protocol']['benchmark']}, mean over {count} {basis}"
        labels = {"xlabel": "robustness rank", "ylabel": "accuracy rank"}
        path = folder / f"ar_ranking_{basis}.png"
        paths.append(_scatter(points, path, {"xlim": ends, "ylim": ends, "title": title, **labels}))
    return [path for path in paths if path is not None]


def _scatter(points: dict[str, tuple[Any, Any]], path: Path, axes: dict[str, Any]) -> Path | None:
    """Draw a point with its intervals for each tracker; nothing without a tracker or without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if not points:
        return None
    figure = Figure(figsize=(6, 5), layout="constrained")
    plot = figure.add_subplot(**axes)
    for i, (name, pair) in enumerate(points.items()):
        errors = [[[abs(e["value"] - (e["value"] if v is None else v))] for v in e["ci95"]] for e in pair]
        x, y = (estimate["value"] for estimate in pair)
        plot.errorbar(
            x, y, xerr=errors[0], yerr=errors[1], fmt=MARKERS[i % len(MARKERS)], label=name, elinewidth=0.8, alpha=0.8
        )
    plot.legend(fontsize="small", loc="lower left")  # the best are at the upper right
    plot.grid(alpha=0.3)
    FigureCanvasAgg(figure).print_png(path)
    return path


def _score(number: int, curve: torch.Tensor) -> float:
    """The number a curve is ranked by: its mean, or precision at 20 pixels."""
    return float(curve[PRECISION_AT] if number == 1 else curve.mean())
