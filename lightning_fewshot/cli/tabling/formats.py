"""The formats of ``table``: terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from lightning_fewshot.cli.tabling.grid import RUN_COLUMNS, FilledTable

CSV_COLUMNS = (
    "paper",
    "table",
    "row",
    "column",
    "unit",
    "reported",
    "ours",
    "low",
    "high",
    "spread",
    "n",
    "seeds",
)
CSV_COLUMNS += ("data", "command", "runs")
LATEX_SPECIAL = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{"}
LATEX_SPECIAL |= {"}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"}


def as_terminal(tables: list[FilledTable]) -> str:
    """Return tables with frames, as wide as they need to be."""
    from rich.console import Console
    from rich.table import Table

    buffer = io.StringIO()
    console = Console(file=buffer, width=10_000, force_terminal=False)
    for filled in tables:
        grid = Table(title=_title(filled), title_justify="left", show_lines=False)
        for i, name in enumerate(filled.header):
            grid.add_column(name, justify="left" if i <= len(filled.table.stub) else "right", no_wrap=True)
        for line in filled.lines():
            grid.add_row(*line, end_section=False)
        console.print(grid, justify="left")
        for line in filled.run_lines():
            row, data, ours, spread, n, seeds, command = line
            text = f"  {row}, {data}: {ours} ({spread}, n {n}, seeds: {seeds})\n    {command}"
            console.print(text, markup=False, highlight=False)
        for note in filled.notes:
            console.print(f"  note: {note}", markup=False)
        console.print()
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def as_markdown(tables: list[FilledTable]) -> str:
    """Return one section a table: the grid, then the runs behind it."""
    parts = []
    for filled in tables:
        first = len(filled.table.stub) + 1
        parts.append(f"### {_title(filled)}\n")
        parts.append(markdown_table(filled.header, filled.lines(), first))
        if runs := filled.run_lines():
            runs = [[*line[:-1], f"`{line[-1]}`"] for line in runs]
            parts.append(markdown_table(list(RUN_COLUMNS), runs, len(RUN_COLUMNS)))
        parts += [f"- {note}" for note in filled.notes] + ([""] if filled.notes else [])
    return "\n".join(parts)


def as_csv(tables: list[FilledTable]) -> str:
    """Return one line a cell and data set; a cell never run has nothing after the paper's number."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for filled in tables:
        for line in _csv_lines(filled):
            writer.writerow(line)
    return buffer.getvalue()


def as_latex(tables: list[FilledTable]) -> str:
    """Return one table environment a table (needs booktabs); the commands stand in comments."""
    parts = []
    for filled in tables:
        stub = len(filled.table.stub) + 1
        lines = [" & ".join(_latex(cell) for cell in line) + r" \\" for line in filled.lines()]
        header = " & ".join(_latex(name) for name in filled.header) + r" \\"
        parts += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(_title(filled))}}}",
            rf"\begin{{tabular}}{{{'l' * stub}{'r' * len(filled.table.columns)}}}",
            *(r"\toprule", header, r"\midrule", *lines, r"\bottomrule"),
            r"\end{tabular}",
            r"\end{table}",
            *("% " + ": ".join(line).replace("\n", " ") for line in filled.run_lines()),
            *(f"% note: {note}" for note in filled.notes),
            "",
        ]
    return "\n".join(parts)


FORMATS: dict[str, Callable[[list[FilledTable]], str]] = {
    "terminal": as_terminal,
    "markdown": as_markdown,
    "csv": as_csv,
    "latex": as_latex,
}


def markdown_table(header: list[str], lines: list[list[str]], first_number: int) -> str:
    """Return a Markdown table whose columns from ``first_number`` on are right-aligned.

    >>> print(markdown_table(["a", "b"], [["x|y", "1"]], 1))
    | a | b |
    |---|---:|
    | x\\|y | 1 |
    <BLANKLINE>
    """
    rule = ["---" if i < first_number else "---:" for i in range(len(header))]
    rows = [header, *lines]
    texts = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join([texts[0], "|" + "|".join(rule) + "|", *texts[1:], ""])


def _title(filled: FilledTable) -> str:
    table = filled.table
    unit = f"; {table.unit}" if table.unit else ""
    return f"{table.heading} ({table.source}): {table.caption}{unit}"


def _csv_lines(filled: FilledTable) -> list[dict[str, object]]:
    lines = []
    for (r, c), measured in filled.measured.items():
        cell = filled.table.rows[r][c]
        base = {"paper": filled.table.paper, "table": filled.table.number, "unit": filled.table.unit}
        base |= {"row": ", ".join(filter(None, cell.labels)), "column": cell.column, "reported": cell.reported}
        ours = [
            {"ours": m.value, "low": m.low, "high": m.high, "spread": m.spread, "n": m.n, "seeds": m.seeds}
            | {"data": m.data, "command": "; ".join(run.command for run in m.runs)}
            | {"runs": "; ".join(run.name for run in m.runs)}
            for m in measured
        ]
        lines += [base | one for one in ours] or [base]
    return lines


def _latex(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(letter, letter) for letter in text)
