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


def print_table(record: dict[str, Any]) -> None:
    """Print one line a tracker, the best success first."""
    table = Table(title=f"{record['protocol']['benchmark']}, one-pass evaluation")
    table.add_column("tracker", overflow="fold", no_wrap=True)
    names = list(dict.fromkeys(name for tracker in record["trackers"].values() for name in tracker["metrics"]))
    for column in (*names, "sequences"):
        table.add_column(column, justify="right")
    order = sorted(record["trackers"].items(), key=lambda item: -item[1]["metrics"]["success_auc"]["value"])
    for name, tracker in order:
        values = [tracker["metrics"].get(n, {}).get("value") for n in names]
        cells = ["-" if v is None else f"{v:.4f}" if v <= 1 else f"{v:.1f}" for v in values]
        table.add_row(name, *cells, str(tracker["metrics"]["success_auc"]["n"]))
    Console().print(table)


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


def _score(number: int, curve: torch.Tensor) -> float:
    """The number a curve is ranked by: its mean, or precision at 20 pixels."""
    return float(curve[PRECISION_AT] if number == 1 else curve.mean())
