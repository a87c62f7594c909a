"""The papers' numbers: ``lightning_fewshot/papers/<paper>.yaml``, and how a run is recognised as one of their cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fewshot.cli.runs import MISSING, Run

FOLDER = Path(__file__).parents[2] / "papers"
TABLE_KEYS = {"number", "page", "section", "caption", "stub", "metric", "scale", "unit", "digits", "match"}
TABLE_KEYS |= {"columns", "rows"}
COLUMN_KEYS = {"name", "match", "metric", "scale", "digits"}
ROW_KEYS = {"labels", "values", "match", "metric", "scale", "digits"}
BOUNDS = {"min", "max", "not"}
TESTED = {"split": "test"}  # a run that was killed in its training leaves results of val


@dataclass(frozen=True)
class Cell:
    """One number of a paper.

    Args:
        labels: Of its row.
        column: Of its column.
        reported: The paper's number, a text where the paper has more than a number, or None.
        match: What a run must have to be this cell; None: no run of the project can be.
        metric: Name in ``results.json``, or None.
        scale: Factor from our number to the paper's unit.
        digits: Decimals that the paper prints.
    """

    labels: tuple[str, ...]
    column: str
    reported: float | str | None
    match: dict[str, Any] | None
    metric: str | None
    scale: float
    digits: int

    def fits(self, run: Run) -> bool:
        """Whether a run is this cell."""
        if self.match is None or self.metric is None:
            return False
        value = run.metrics.get(self.metric, {}).get("value")
        return value is not None and _matches(run, self.match)


@dataclass(frozen=True)
class PaperTable:
    """One table, or one figure whose numbers stand in the text.

    Args:
        paper: Short name of the paper, ``repmet``.
        title: Title and venue of the paper.
        number: ``3``, or ``figure 4``.
        source: Page and section.
        caption: What it shows.
        unit: Of its numbers.
        stub: Names of the columns of labels.
        columns: Names of the columns of numbers.
        rows: The cells of each row.
    """

    paper: str
    title: str
    number: str
    source: str
    caption: str
    unit: str
    stub: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def heading(self) -> str:
        """``repmet, table 3``."""
        return f"{self.paper}, {self.number if self.number[0].isalpha() else 'table ' + self.number}"


def paper_names(folder: Path = FOLDER) -> list[str]:
    """Return the papers that there are files of."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_paper(name: str, folder: Path = FOLDER) -> list[PaperTable]:
    """Return the tables of a paper.

    Raises:
        ValueError: There is no such paper, or its file is wrong; names the key.
    """
    import yaml

    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"--paper is {name!r} but must be one of {paper_names(folder)}")
    content = yaml.safe_load(path.read_text())
    title = f"{content['title']}, {content['venue']}"
    return [_table(entry, name, title, path) for entry in content["tables"]]


def agrees(value: Any, wish: Any) -> bool:
    """Whether a field of a run is what a paper file asks for.

    A list asks for any of its elements, ``{min: 1}`` for a number, ``{not: x}`` for anything else. A missing field is
    null.

    >>> agrees(5, [1, 5]), agrees(100, {"min": 1}), agrees(None, {"min": 1}), agrees(0, False)
    (True, True, False, False)
    """
    value = None if value is MISSING else value
    if isinstance(wish, list):
        return any(agrees(value, one) for one in wish)
    if not isinstance(wish, dict):
        return value == wish and isinstance(value, bool) == isinstance(wish, bool)
    if "not" in wish and agrees(value, wish["not"]):
        return False
    if not {"min", "max"} & set(wish):
        return True
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and wish.get("min", value) <= value <= wish.get("max", value)


def _matches(run: Run, match: dict[str, Any]) -> bool:
    """Whether a run has all that is asked for; of the mappings under ``any`` one is enough."""
    if not all(agrees(run.look_up(key), wish) for key, wish in match.items() if key != "any"):
        return False
    return "any" not in match or any(_matches(run, alternative) for alternative in match["any"])


def _table(entry: dict[str, Any], paper: str, title: str, path: Path) -> PaperTable:
    where = f"{path}: table {entry.get('number')}"
    _refuse_unknown(entry, TABLE_KEYS, where)
    source = f"page {entry['page']}" if entry.get("page") else ""
    section = f"section {entry['section']}" if entry.get("section") else ""
    return PaperTable(
        paper=paper,
        title=title,
        number=str(entry["number"]),
        source=", ".join(filter(None, (source, section))),
        caption=entry["caption"],
        unit=entry.get("unit", ""),
        stub=tuple(entry["stub"]),
        columns=tuple(column["name"] for column in entry["columns"]),
        rows=tuple(_row(row, entry, where) for row in entry["rows"]),
    )


def _row(row: dict[str, Any], table: dict[str, Any], where: str) -> tuple[Cell, ...]:
    where = f"{where}, row {row.get('labels')}"
    _refuse_unknown(row, ROW_KEYS, where)
    if len(row["labels"]) != len(table["stub"]):
        raise ValueError(f"{where} has {len(row['labels'])} labels but stub has {len(table['stub'])}")
    if len(row["values"]) != len(table["columns"]):
        raise ValueError(f"{where} has {len(row['values'])} values but there are {len(table['columns'])} columns")
    return tuple(
        _cell(row, column, table, value, where) for column, value in zip(table["columns"], row["values"], strict=True)
    )


def _cell(row: dict[str, Any], column: dict[str, Any], table: dict[str, Any], value: Any, where: str) -> Cell:
    _refuse_unknown(column, COLUMN_KEYS, f"{where}, column {column.get('name')}")
    layers = (column, row, table)
    match = None
    if "match" in row and column.get("match", {}) is not None:
        match = TESTED | table.get("match", {}) | column.get("match", {}) | row["match"]
        _check_match(match, where)
    return Cell(
        labels=tuple(str(label) for label in row["labels"]),
        column=column["name"],
        reported=value,
        match=match,
        metric=_first(layers, "metric", None),
        scale=_first(layers, "scale", 1.0),
        digits=_first(layers, "digits", 1),
    )


def _first(layers: tuple[dict[str, Any], ...], key: str, default: Any) -> Any:
    return next((layer[key] for layer in layers if key in layer), default)


def _check_match(match: dict[str, Any], where: str) -> None:
    for key, wish in match.items():
        if isinstance(wish, dict):
            _refuse_unknown(wish, BOUNDS, f"{where}, match.{key}")


def _refuse_unknown(entry: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        raise ValueError(f"{where} has the unknown key {unknown[0]!r}; known: {sorted(known)}")
