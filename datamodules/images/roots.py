"""Where a data set lies: the ``root`` argument, or the environment variable FEWSHOT_DATA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

ENVIRONMENT_NAME = "FEWSHOT_DATA"


class Download(NamedTuple):
    """What a data set needs on disk, and where it comes from.

    Args:
        folder: Name of the data set's folder under the root.
        needs: Paths inside the folder without which it is no such data set; a pattern such as ``*.json`` will do.
        what: What to download, as its publisher calls it.
        source: Who publishes it, with the address.
        verb: What one does to get it.
    """

    folder: str
    needs: tuple[str, ...]
    what: str
    source: str
    verb: str = "Download"


def find_root(root: str | None, download: Download) -> Path:
    """Return the folder of a data set.

    Args:
        root: The folder that holds the data sets' folders, or the data set's own folder. None: FEWSHOT_DATA.
        download: What is looked for.

    Raises:
        FileNotFoundError: Nothing is there; says what to download, from whom, and into which folder.
    """
    given = root or os.environ.get(ENVIRONMENT_NAME)
    if not given:
        raise FileNotFoundError(
            f"no root is given for {download.folder}: set {ENVIRONMENT_NAME} or --data.root to the folder that holds "
            f"{download.folder}/. {_advice(Path(f'${ENVIRONMENT_NAME}'), download)}"
        )
    base = Path(given).expanduser()
    for folder in (base / download.folder, base):
        if all(any(folder.glob(path)) for path in download.needs):
            return folder
    state = "is empty" if base.is_dir() and not any(base.iterdir()) else "has no such data"
    state = state if base.is_dir() else "does not exist"
    raise FileNotFoundError(f"root {base} {state}. {_advice(base, download)}")


def _advice(base: Path, download: Download) -> str:
    place = "unpack it" if download.verb == "Download" else "put it"
    needs = ", ".join(f"{base / download.folder}/{path}" for path in download.needs)
    return f"{download.verb} {download.what} from {download.source} and {place} so that these exist: {needs}"
