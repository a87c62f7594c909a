"""Writing files so that nothing is lost."""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath

RUN_MARKER = ".lightning_fewshot_run"  # lies in every run folder: what is in one is never data
FIRST_PROCESS_VARIABLE = "LIGHTNING_FEWSHOT_FIRST_PROCESS"  # number of the process that starts the others of a run
LITTER = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "@eadir"}  # in small letters


def is_litter(path: Path, root: Path) -> bool:
    """Return whether a file below ``root`` is no data: litter, in a folder that is, or in the folder of a run."""
    folders = [folder for folder in path.parents if root in folder.parents]
    litter = any(map(is_litter_name, path.relative_to(root).parts))
    return litter or any((folder / RUN_MARKER).exists() for folder in folders)


def matching(folder: Path, *patterns: str) -> list[Path]:
    """Return what fits any of the glob patterns below a folder, sorted; without litter, in any folder on the way."""
    paths = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(p for p in paths if not any(map(is_litter_name, p.relative_to(folder).parts)))


def is_litter_name(name: str) -> bool:
    """Return whether a file or folder of this name is what an operating system or an editor leaves behind.

    >>> [n for n in ("._a.jpg", "Thumbs.db", "__MACOSX", "a.jpg~", "#a.txt#", "a.jpg") if not is_litter_name(n)]
    ['a.jpg']
    """
    hidden = name.startswith((".", "~$")) or name.endswith("~") or (name.startswith("#") and name.endswith("#"))
    return hidden or name.casefold() in LITTER


def write_atomically(path: str | Path, text: str) -> None:
    """Write a text file so that a reader sees the old file or the new one, never half of it.

    Raises:
        OSError: It cannot be written; names the file.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", newline="")
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write: {error.strerror or error}", str(path)) from error
    finally:
        with suppress(OSError):  # the folder may be read-only by now
            part.unlink(missing_ok=True)


class OutputNames:
    """Give every input its own output name, whatever folders and suffixes tell the inputs apart.

    >>> names = OutputNames()
    >>> [names.name(n) for n in ("a.jpg", "a.png", "x/1.jpg", "x_1.jpg", "../a.gif")]
    ['a', 'a.png', 'x/1', 'x_1', 'a.gif']
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, source: str) -> str:
        """Return a relative path without suffix that was not given before, also where capitals do not count."""
        path = PurePosixPath(source.replace("\\", "/"))
        whole = PurePosixPath(*(part for part in path.parts if part not in ("..", "/")))
        candidates = [whole.with_suffix(""), whole]
        candidates += [whole.with_name(f"{whole.name}.{number}") for number in range(2, len(self._taken) + 3)]
        for candidate in map(str, candidates):
            key = unicodedata.normalize("NFC", candidate).casefold()
            if key not in self._taken:
                self._taken.add(key)
                return candidate
        raise AssertionError("there are more candidates than names taken")
