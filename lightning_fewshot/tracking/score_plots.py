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
RANKED_BY = {"one-pass": "success_auc", "supervised": "accuracy"}


def print_table(record: dict[str, Any]) -> None:
    """Print one line a tracker, the best success first."""
    for evaluation in ("one-pass", "supervised"):
        trackers = {name: t for name, t in record["trackers"].items() if t["evaluation"] == evaluation}
        if trackers:
            title = f"{record['protocol']['benchmark']}, {evaluation} evaluation"
            Console().print(_table(trackers, title, RANKED_BY[evaluation]))


def _table(trackers: dict[str, Any], title: str, ranked_by: str) -> Table:
    table = Table(title=title)
    table.add_column("tracker", overflow="fold", no_wrap=True)
    names = list(dict.fromkeys(name for tracker in trackers.values() for name in tracker["metrics"]))
    for column in (*names, "sequences"):
        table.add_column(column, justify="right")
    for name, tracker in sorted(trackers.items(), key=lambda item: -item[1]["metrics"][ranked_by]["value"]):
        values = [tracker["metrics"].get(n, {}).get("value") for n in names]
        cells = ["-" if v is None else f"{v:.4f}" if v <= 1 else f"{v:.1f}" for v in values]
        table.add_row(name, *cells, str(tracker["metrics"][ranked_by]["n"]))
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
    """Draw accuracy over robustness of supervised results, as VOT ranks trackers; nothing without any."""
    trackers = {name: t["metrics"] for name, t in record["trackers"].items() if t["evaluation"] == "supervised"}
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if not trackers:
        return None
    figure = Figure(figsize=(6, 5))
    labels = {"xlabel": "robustness: chance to track 30 frames", "ylabel": "accuracy: mean overlap"}
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1), title=record["protocol"]["benchmark"], **labels)
    for name, metrics in trackers.items():
        axes.plot(metrics["robustness"]["value"], metrics["accuracy"]["value"], "o", label=name)
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    path = folder / "accuracy_robustness.png"
    FigureCanvasAgg(figure).print_png(path)
    return path


def _score(number: int, curve: torch.Tensor) -> float:
    """The number a curve is ranked by: its mean, or precision at 20 pixels."""
    return float(curve[PRECISION_AT] if number == 1 else curve.mean())
