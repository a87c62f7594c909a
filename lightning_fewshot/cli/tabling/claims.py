"""The table of claims of docs/results.md, made from docs/claims.yaml.

A claim's texts hold numbers by name, ``{ours}``: a value with half of its interval, given in the file or read from a
kept ``results.json``. So a number stands in one place; a smallest difference is computed from the intervals behind it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fewshot.files import write_atomically

BEGIN = "<!-- claims: written by `python -m lightning_fewshot table --claims docs/claims.yaml`; edit that file -->"
END = "<!-- end of claims -->"
COLUMNS = ("paper", "claim", "reported", "ours", "data", "smallest_difference", "holds")
HEADER = ("paper", "claim", "the paper", "ours", "data", "smallest difference", "holds")
SHORT = ("paper", "claim", "data", "holds")
NUMBER_COLUMN = COLUMNS.index("smallest_difference")
VALUE_KEYS = {"value", "half", "digits", "sign", "result", "metric", "scale"}


@dataclass(frozen=True)
class Value:
    """A number with half of its 95 % interval.

    Args:
        value: The number.
        half: Half of its interval, or None.
        digits: Decimals.
        sign: Whether a plus is printed.
    """

    value: float
    half: float | None
    digits: int
    sign: bool

    def __str__(self) -> str:
        text = f"{self.value:{'+' if self.sign else ''}.{self.digits}f}"
        return text if self.half is None else f"{text} ± {self.half:.{self.digits}f}"


def write_claims(path: Path) -> list[Path]:
    """Write the table into the documents that the file of claims names; return them.

    Raises:
        ValueError: A key, a name or a kept result is wrong, or a document lacks the markers.
    """
    documents = updated_documents(path)
    for document, text in documents.items():
        write_atomically(document, text)
    return list(documents)


def updated_documents(path: Path) -> dict[Path, str]:
    """Return the documents and their text with the table of now.

    Args:
        path: ``docs/claims.yaml``: ``claims``, ``document`` (relative to the file), and if wanted ``summary``, a
            document with the columns ``SHORT`` alone.
    """
    import yaml

    if not path.is_file():
        raise ValueError(f"--claims is {path} but there is no such file")
    content = yaml.safe_load(path.read_text())
    wanted = {"document": COLUMNS, "summary": SHORT}
    named = {path.parent / content[key]: columns for key, columns in wanted.items() if key in content}
    return {file: _filled(file, claims_table(content["claims"], path, columns)) for file, columns in named.items()}


def claims_table(claims: list[dict[str, Any]], path: Path, columns: Sequence[str] = COLUMNS) -> str:
    """Return the claims as a Markdown table."""
    places = [COLUMNS.index(column) for column in columns]
    rule = ["---:" if i == NUMBER_COLUMN else "---" for i in places]
    rows = [[cells[i] for i in places] for cells in (_cells(claim, path) for claim in claims)]
    lines = ["| " + " | ".join(HEADER[i] for i in places) + " |", "|" + "|".join(rule) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _filled(document: Path, table: str) -> str:
    before, begin, rest = document.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{document} lacks the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def _cells(claim: dict[str, Any], path: Path) -> list[str]:
    where = f"{path}: claim {claim.get('claim')!r} of {claim.get('paper')}"
    for key in claim:
        if key not in (*COLUMNS, "values"):
            raise ValueError(f"{where} has the unknown key {key!r}; known: {[*COLUMNS, 'values']}")
    values = {name: _value(entry, path.parent, where) for name, entry in (claim.get("values") or {}).items()}
    cells = []
    for column in COLUMNS:
        if column not in claim:
            raise ValueError(f"{where} lacks the key {column!r}")
        entry = claim[column]
        text = _fill(str(entry), values, where) if column != "smallest_difference" else _power(entry, values, where)
        cells.append(text.strip().replace("|", r"\|"))
    return cells


def _fill(text: str, values: dict[str, Value], where: str) -> str:
    def replace(match: re.Match) -> str:
        if match[1] not in values:
            raise ValueError(f"{where} names the value {match[1]!r}; known: {sorted(values)}")
        return str(values[match[1]])

    return re.sub(r"\{(\w+)\}", replace, text)


def _power(entry: Any, values: dict[str, Value], where: str) -> str:
    """Return the smallest difference that a claim's intervals could have shown, as a text with a number."""
    parts = entry if isinstance(entry, list) else [entry]
    texts = [_smallest(part, values, where) if isinstance(part, dict) else str(part) for part in parts]
    text = " and ".join(texts)
    if not re.search(r"\d", text):
        raise ValueError(
            f"{where}: smallest_difference is {text!r} but must be a number, {{between: [...]}} or a text with one: "
            "what is the smallest difference that the intervals could have shown?"
        )
    return text


def _smallest(entry: dict[str, Any], values: dict[str, Value], where: str) -> str:
    """Return what the intervals of some values could have shown: sqrt(a^2 + b^2)."""
    names = entry.get("between") or []
    unknown = [name for name in names if name not in values or values[name].half is None]
    if not names or unknown:
        raise ValueError(f"{where}: smallest_difference.between is {names} but must name values that have an interval")
    digits = max(values[name].digits for name in names)
    return f"{math.hypot(*(values[name].half for name in names)):.{digits}f}"


def _value(entry: dict[str, Any], folder: Path, where: str) -> Value:
    unknown = sorted(set(entry) - VALUE_KEYS)
    if unknown:
        raise ValueError(f"{where}: a value has the unknown key {unknown[0]!r}; known: {sorted(VALUE_KEYS)}")
    if "result" in entry:
        value, half = _kept(folder / entry["result"], entry["metric"], entry.get("scale", 1.0), where)
    else:
        value, half = entry["value"], entry.get("half")
    return Value(value, half, entry.get("digits", 1), entry.get("sign", False))


def _kept(path: Path, metric: str, scale: float, where: str) -> tuple[float, float | None]:
    """Read a number from a kept ``results.json``."""
    try:
        entry = json.loads(path.read_text())["metrics"][metric]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{where}: {path} has no metric {metric!r} ({type(error).__name__})") from error
    low, high = entry["ci95"]
    return entry["value"] * scale, None if low is None else (high - low) / 2 * scale
