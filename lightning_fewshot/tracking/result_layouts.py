"""Where anybody's raw result files lie, and which tracker, sequence and repetition each is of.

- ``<tracker>/<sequence>.txt``: ours, and the got10k toolkit's for OTB;
- ``<tracker>/<sequence>/<sequence>_001.txt``: the got10k toolkit's for GOT-10k; ``_002`` and more are repetitions;
- ``<tracker>/<parameters>/<sequence>.txt``: pytracking's, with a prefix for some sets;
- ``<tracker>/<experiment>/<sequence>/<sequence>_001.txt``: vot-toolkit's.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection
from pathlib import Path

from lightning_fewshot.files import is_litter, matching
from lightning_fewshot.tracking.sequence import plain_name

PREFIXES = ("uav.", "nfs.", "tpl.")  # of pytracking
BESIDE = re.compile(r"_(time|times|more|made_by|confidence|object_presence_scores|properties)$")  # no boxes
TIMES = "times"  # folder of times beside the boxes, ours and got10k's
Results = dict[str, dict[str, list[Path]]]


def find_results(folder: Path, sequences: Collection[str]) -> tuple[Results, list[Path]]:
    """Return the result files of each tracker by the plain name of their sequence, and files of no such sequence.

    Args:
        folder: Of one tracker, or of several.
        sequences: Plain names.

    Raises:
        FileNotFoundError: There is no result file.
    """
    found: Results = {}
    unknown = []
    for path in result_files(folder):
        home, stem = _home(path)
        tracker = home.relative_to(folder).as_posix() if home != folder and folder in home.parents else folder.name
        name = _known(plain_name(stem), sequences)
        if name is None:
            unknown.append(path)
        else:
            found.setdefault(tracker, {}).setdefault(name, []).append(path)
    if not found and not unknown:
        raise FileNotFoundError(f"{folder} holds no result file <sequence>.txt, and no folder of them")
    return found, unknown


def result_files(folder: Path) -> list[Path]:
    """Return all files that may hold boxes, in any layout."""
    paths = matching(folder, "**/*.txt") if folder.is_dir() else []
    return [p for p in paths if p.parent.name != TIMES and not BESIDE.search(p.stem) and not is_litter(p, folder)]


def time_file(path: Path) -> Path | None:
    """Return the file of times that belongs to a result file; None where there is none."""
    _, stem = _home(path)
    beside = (path.parent / TIMES / f"{path.stem}_time.txt", path.parent / f"{stem}_time.txt")
    return next((file for file in (*beside, path.with_name(f"{path.stem}_time.txt")) if file.is_file()), None)


def write_archive(results: dict[str, list[Path]], names: dict[str, str], path: Path) -> Path:
    """Write the zip file that GOT-10k's server takes: ``<sequence>/<sequence>_001.txt`` and ``<sequence>_time.txt``.

    Args:
        results: Files of one tracker by plain name.
        names: The benchmark's names by plain name.
        path: Of the archive.

    Raises:
        ValueError: A sequence has no result.
    """
    if lacking := [name for plain, name in names.items() if plain not in results]:
        raise ValueError(f"the archive needs all {len(names)} sequences, {len(lacking)} lack a result: {lacking[0]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for plain, name in names.items():
            for number, file in enumerate(results[plain], 1):
                archive.write(file, f"{name}/{name}_{number:03d}.txt")
            if (times := time_file(results[plain][0])) is not None:
                archive.write(times, f"{name}/{name}_time.txt")
    return path


def write_archives(results: Results, names: dict[str, str], path: Path) -> None:
    """Write the archive of each tracker, and print where; several get their names into that of the file."""
    for tracker, files in results.items():
        suffix = "" if len(results) == 1 else "_" + tracker.replace("/", "_")
        print(f"archive: {write_archive(files, names, path.with_name(path.stem + suffix + path.suffix))}")


def _home(path: Path) -> tuple[Path, str]:
    """Return the folder of the tracker that a file is of, and the file's sequence."""
    sequence = path.parent.name
    if re.fullmatch(re.escape(sequence) + r"_\d{3}", path.stem):
        return path.parent.parent, sequence
    return path.parent, path.stem


def _known(name: str, sequences: Collection[str]) -> str | None:
    bare = (name.removeprefix(prefix) for prefix in PREFIXES)
    return next((n for n in (name, *bare) if n in sequences), None)
