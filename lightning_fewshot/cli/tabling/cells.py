"""From the runs that fit a cell to one number: which settings, which seeds, what spread.

Runs of other data or other settings are never averaged. Of one seed that ran twice the newest run counts.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from lightning_fewshot.cli.runs import Run
from lightning_fewshot.cli.tabling.paper import Cell

# Keys of a config that say where and how, not what was measured.
IRRELEVANT = (
    "run_dir",
    "ckpt_path",
    "seed_everything",
    "config",
    "pictures.",
    "checkpoint.",
    "weights_only",
    "verbose",
)
IRRELEVANT += ("data.init_args.seed", "data.init_args.root", "data.init_args.num_workers", "model.init_args.init_from")
IRRELEVANT += ("trainer.devices", "trainer.accelerator", "trainer.strategy", "trainer.num_nodes", "trainer.logger")
IRRELEVANT += ("trainer.callbacks", "trainer.default_root_dir", "trainer.enable_", "test_after_fit")
MOST_NAMED = 4  # differing keys that a note names


@dataclass(frozen=True)
class Measured:
    """Our number for a cell, in the paper's unit.

    Args:
        cell: The cell.
        data: Class of the data.
        value: The number; the mean over seeds where there are several.
        low: Lower end of the 95 % interval; of several seeds the mean minus their standard deviation. None: unknown.
        high: Upper end, as ``low``.
        n: Episodes, problems or sequences behind it, of one run.
        runs: The runs, one a seed.
    """

    cell: Cell
    data: str
    value: float
    low: float | None
    high: float | None
    n: int
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.runs)

    @property
    def spread(self) -> str:
        """What ``low`` and ``high`` are."""
        if self.low is None:
            return "none"
        return "95 % interval" if self.seeds == 1 else "sd over seeds"

    def text(self) -> str:
        """``56.9 ± 0.8``; with several seeds ``56.9 ± 0.8 (3)``."""
        digits = self.cell.digits
        text = f"{self.value:.{digits}f}"
        if self.low is not None:
            text += f" ± {(self.high - self.low) / 2:.{digits}f}"
        return text if self.seeds == 1 else f"{text} ({self.seeds})"


def measure(cell: Cell, runs: list[Run], notes: list[str]) -> list[Measured]:
    """Return our numbers for a cell, one for each data set; say in the notes what was left out."""
    fitting = [run for run in runs if cell.fits(run)]
    measured = []
    for data in sorted({run.data for run in fitting}):
        group = [run for run in fitting if run.data == data]
        group = _one_a_seed(_newest_settings(group, cell, notes), cell, notes)
        measured.append(_summary(cell, data, group))
    return measured


def settings(run: Run) -> dict[str, Any]:
    """Return what was measured as flat keys: the config without seeds, folders and the machine."""
    flat = _flat(run.config)
    return {key: value for key, value in flat.items() if not key.startswith(IRRELEVANT)}


def _newest_settings(runs: list[Run], cell: Cell, notes: list[str]) -> list[Run]:
    newest = max(runs, key=lambda run: run.time)
    wanted = settings(newest)
    kept = [run for run in runs if settings(run) == wanted]
    for run in runs:
        if run not in kept:
            notes.append(
                f"{_place(cell)}: {run.name} is left out, its settings are not those of the newest run {newest.name}: "
                f"{_differences(settings(run), wanted)}"
            )
    return kept


def _one_a_seed(runs: list[Run], cell: Cell, notes: list[str]) -> list[Run]:
    by_seed: dict[tuple, Run] = {}
    for run in sorted(runs, key=lambda run: run.time):
        older = by_seed.get(run.seed)
        if older:
            notes.append(f"{_place(cell)}: {older.name} is left out, {run.name} is a newer run of the same seed")
        by_seed[run.seed] = run
    return sorted(by_seed.values(), key=lambda run: run.name)


def _summary(cell: Cell, data: str, runs: list[Run]) -> Measured:
    metrics = [run.metrics[cell.metric] for run in runs]
    values = [metric["value"] * cell.scale for metric in metrics]
    value = statistics.fmean(values)
    if len(runs) == 1:
        low, high = (None if end is None else end * cell.scale for end in metrics[0].get("ci95") or (None, None))
    else:
        deviation = statistics.stdev(values)
        low, high = value - deviation, value + deviation
    return Measured(cell, data, value, low, high, metrics[0].get("n", 0), tuple(runs))


def _flat(place: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(place, dict):
        return {prefix: place}
    flat: dict[str, Any] = {}
    for key, value in place.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _differences(settings_a: dict[str, Any], settings_b: dict[str, Any]) -> str:
    keys = sorted(set(settings_a) | set(settings_b))
    keys = [key for key in keys if settings_a.get(key) != settings_b.get(key)]
    named = [f"{key} {settings_a.get(key)} and not {settings_b.get(key)}" for key in keys[:MOST_NAMED]]
    return ", ".join(named) + (f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else "")


def _place(cell: Cell) -> str:
    return ", ".join(filter(None, cell.labels))
