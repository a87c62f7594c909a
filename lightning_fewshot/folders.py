"""What lies in a folder: files of data, without what systems, editors and runs leave behind, also behind links."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection
from pathlib import Path

from lightning_fewshot.files import RUN_MARKER, is_litter_name

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


def data_files(folder: Path, suffixes: Collection[str], deep: bool = True) -> list[Path]:
    """Return the files of data in a folder, sorted. Links are followed, each folder once.

    Args:
        folder: Where to look; nothing is there if it does not exist.
        suffixes: In small letters; those of the files may be in capitals.
        deep: Look into the folders below as well.
    """
    found: list[Path] = []
    seen: set[str] = set(map(str, Path(os.path.realpath(folder)).parents))  # a link upwards leads nowhere new
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or (place != str(folder) and RUN_MARKER in files):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if deep and not is_litter_name(name))
        found += [Path(place, name) for name in files if is_data(name, suffixes)]
    return sorted(found)


def is_data(name: str, suffixes: Collection[str]) -> bool:
    """Return whether a file of this name is data of a kind.

    >>> [is_data(name, (".jpg",)) for name in ("a.JPG", "._a.jpg", "a.jpg~", "Thumbs.db")]
    [True, False, False, False]
    """
    return os.path.splitext(name)[1].lower() in suffixes and not is_litter_name(name)


def data_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without litter."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not is_litter_name(p.name))


def same_name(name: str) -> str:
    """Return what two names share that a person takes for one: Unicode's composed form, small letters.

    >>> same_name("Cafe\\u0301.JPG") == same_name("caf\\u00e9.jpg")
    True
    """
    return unicodedata.normalize("NFC", name).casefold()


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file of a name in a folder, where Unicode forms and capitals may differ; None: there is none.

    Raises:
        ValueError: Several files differ in that only, and none has the very name.
    """
    if (folder / name).is_file():
        return folder / name
    parent = (folder / name).parent
    wanted = same_name(Path(name).name)
    files = parent.iterdir() if parent.is_dir() else ()
    fitting = sorted(p for p in files if same_name(p.name) == wanted and p.is_file())
    if len(fitting) > 1:
        raise ValueError(f"{name} may be {fitting[0]} or {fitting[1]}: give them different names")
    return fitting[0] if fitting else None
