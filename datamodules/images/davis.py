"""Sequence lists of DAVIS, in both layouts that are around."""

from __future__ import annotations

from pathlib import Path


def read_sequences(path: Path) -> list[str]:
    """Read the sequences of a list, which names them or, as published, every frame; none if there is no such file."""
    entries = [line.split()[0] for line in path.read_text().splitlines() if line.strip()] if path.exists() else []
    return list(dict.fromkeys(Path(entry).parent.name if "/" in entry else entry for entry in entries))
