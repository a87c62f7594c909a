"""Sequence lists of DAVIS, in both layouts that are around."""

from __future__ import annotations

from pathlib import Path

from lightning_fewshot.text import fields, inner_path, read_lines


def read_sequences(path: Path) -> list[str]:
    """Read the sequences of a list, which names them or, as published, every frame; none if there is no such file.

    Raises:
        ValueError: A line names a folder outside; names the line.
    """
    lines = read_lines(path) if path.exists() else []
    entries = [inner_path(fields(line)[0].lstrip("/"), f"{path} line {number}") for number, line in lines]
    return list(dict.fromkeys(Path(entry).parent.name if "/" in entry else entry for entry in entries))
