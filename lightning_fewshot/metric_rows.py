"""The rows of a run's ``metrics.csv``, as far as a machine that died while it wrote has left them readable."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any


def read_metric_rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the names of the columns and the rows; zero bytes, which a power cut leaves, are nothing.

    Reading ends where the file is no csv any more. No torch here: ``report`` reads many.
    """
    text = path.read_bytes().decode("utf-8", errors="replace").replace("\0", "")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows: list[dict[str, Any]] = []
    try:
        fields = [name for name in reader.fieldnames or [] if name]
        rows += reader
    except csv.Error:
        fields = [] if reader.line_num < 2 else fields
    return fields, rows


def finite(value: Any) -> float | None:
    """Return the number that a cell holds; None where it holds none, or none that is finite."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
