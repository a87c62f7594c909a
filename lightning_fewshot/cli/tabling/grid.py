"""A paper's table with ours below each of its rows, and the runs behind our numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_fewshot.cli.runs import Run
from lightning_fewshot.cli.tabling.cells import Measured, measure
from lightning_fewshot.cli.tabling.paper import Cell, PaperTable

DASH = "–"
RUN_COLUMNS = ("row", "data", "ours", "spread", "n", "seeds", "command")


@dataclass
class FilledTable:
    """A paper's table, filled with our numbers.

    Args:
        table: The paper's table.
        measured: By row and column, one a data set.
        notes: What was left out, and why.
    """

    table: PaperTable
    measured: dict[tuple[int, int], list[Measured]]
    notes: list[str] = field(default_factory=list)

    @property
    def header(self) -> list[str]:
        """Names of the columns."""
        return [*self.table.stub, "source", *self.table.columns]

    def lines(self) -> list[list[str]]:
        """Return the lines of the grid: the paper's row, then one a data set that we have; blank: never run."""
        lines = []
        for r, row in enumerate(self.table.rows):
            lines.append([*row[0].labels, "paper", *(reported(cell) for cell in row)])
            data_sets = sorted({m.data for c in range(len(row)) for m in self.measured[r, c]})
            if not data_sets and any(cell.match is not None for cell in row):
                lines.append([*("" for _ in row[0].labels), "ours", *("" for _ in row)])
            for data in data_sets:
                texts = [self._text(r, c, data) for c in range(len(row))]
                lines.append([*("" for _ in row[0].labels), f"ours, {data}", *texts])
        return lines

    def run_lines(self) -> list[list[str]]:
        """Return what is behind our numbers, as ``RUN_COLUMNS``; numbers of one row and the same runs share a line."""
        groups: dict[tuple, list[Measured]] = {}
        for (row, _), cell in self.measured.items():
            for m in cell:
                groups.setdefault((row, m.data, m.spread, m.n, *(run.name for run in m.runs)), []).append(m)
        return [_run_line(group) for group in groups.values()]

    def _text(self, row: int, column: int, data: str) -> str:
        return next((m.text() for m in self.measured[row, column] if m.data == data), "")


def fill(table: PaperTable, runs: list[Run]) -> FilledTable:
    """Put our numbers into a paper's table."""
    notes: list[str] = []
    measured = {(r, c): measure(cell, runs, notes) for r, row in enumerate(table.rows) for c, cell in enumerate(row)}
    return FilledTable(table, measured, list(dict.fromkeys(notes)))


def reported(cell: Cell) -> str:
    """Return the paper's number as it is printed there; a dash where it has none."""
    if cell.reported is None:
        return DASH
    return cell.reported if isinstance(cell.reported, str) else f"{cell.reported:.{cell.digits}f}"


def _run_line(group: list[Measured]) -> list[str]:
    first = group[0]
    row = ", ".join(filter(None, first.cell.labels))
    numbers = "; ".join(f"{m.cell.column} {m.text()}" for m in group)
    commands = "; ".join(run.command for run in first.runs)
    return [row, first.data, numbers, first.spread, str(first.n), str(first.seeds), commands]
