"""What makes single frames of VOT hard: occlusion, camera motion and others, in a file each or beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.files import matching
from lightning_fewshot.tracking.box_files import read_lines

TAGS = ("camera_motion", "illum_change", "motion_change", "occlusion", "size_change")
PATTERNS = ("*.tag", "*.label")  # VOT2016 and later; VOT2013 to VOT2015
Tags = tuple[tuple[str, Tensor], ...]


def read_tags(folder: Path, count: int) -> Tags:
    """Read the files of a sequence, a line 0 or 1 a frame; lines that are missing at the end are 0.

    Args:
        folder: Of the sequence.
        count: T, its frames.

    Returns:
        Name and ``(T,)`` bool of each file.

    Raises:
        ValueError: A line is something else; names it.
    """
    paths = [path for pattern in PATTERNS for path in matching(folder, pattern)]
    return tuple((path.stem, _flags(read_lines(path), count)) for path in paths)


def tags_of(entry: dict[str, Any], count: int, name: str, path: Path) -> Tags:
    """Return the tags of an entry of VOT2018.json, as :func:`read_tags` does.

    Args:
        entry: Of the sequence.
        count: T, its frames.
        name: Of the sequence, for errors.
        path: Of the file, for errors.

    Raises:
        ValueError: A tag is no list of 0 and 1; names file and sequence.
    """
    found = {tag: entry[tag] for tag in TAGS if tag in entry}
    for tag, values in found.items():
        if not isinstance(values, list):
            raise ValueError(f"{path}, sequence {name}: {tag} must be a list of 0 and 1")
    return tuple(
        (tag, _flags([(str(v), f"{path}, sequence {name}, {tag}") for v in values], count))
        for tag, values in found.items()
    )


def _flags(lines: list[tuple[str, str]], count: int) -> Tensor:
    flags = torch.zeros(count, dtype=torch.bool)
    for t, (line, place) in enumerate(lines[:count]):
        if line not in ("0", "1"):
            raise ValueError(f"{place} is {line[:60]!r} but must be 0 or 1")
        flags[t] = line == "1"
    return flags
