"""Omniglot's official layout: folders of drawings, zips, and Lake's twenty one-shot runs.

    images_background/<alphabet>/<character>/<number>_<drawer>.png     30 alphabets
    images_evaluation/...                                              20 alphabets
    one-shot-classification/run01 .. run20/{class_labels.txt, training/, test/}

Lake, Salakhutdinov, Tenenbaum: Human-level concept learning through probabilistic program induction (2015).

Shapes: N drawings, S side of a drawing in pixels.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from datamodules.characters.drawings import Characters
from lightning_fewshot.folders import data_files, data_folders
from lightning_fewshot.text import fields, inner_path, read_lines

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
ZIPS = {  # folder: (path below URL, md5 where the owner's users agree on one)
    "images_background": ("images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
    "images_evaluation": ("images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
    "one-shot-classification": ("one-shot-classification/all_runs.zip", None),
}
SOURCE_SIDE = 105  # pixels of a drawing as published
THREADS = 4  # decoding waits for files and releases the interpreter lock
CHUNK = 256  # drawings of one task of a thread
MAX_UNPACKED = 2**30  # bytes that an archive may hold; the largest has 40 MB
PAPER = 127  # the mean grey level above which the ground of a drawing is white


class Run(NamedTuple):
    """One of Lake's runs: 20 exemplars, each to be found among the same 20 candidates.

    Args:
        exemplars: ``(20, S, S)`` uint8.
        candidates: ``(20, S, S)`` uint8.
        matches: ``(20,)`` place of each exemplar's character among the candidates.
    """

    exemplars: np.ndarray
    candidates: np.ndarray
    matches: np.ndarray


def open_folder(root: Path, name: str, download: bool = False) -> Path:
    """Return ``root/name``, unpacked from ``root/<zip>`` or fetched where that is asked for.

    Raises:
        ValueError: ``root`` is one level too high or too low, or a zip is truncated.
        FileNotFoundError: There is neither folder nor zip, or they cannot be fetched.
    """
    folder, zipped = root / name, root / Path(ZIPS[name][0]).name
    if folder.is_dir():
        return folder
    _check_level(root, name)
    if not zipped.is_file():
        if not download:
            raise FileNotFoundError(f"no {folder} and no {zipped}; data.download true fetches them from {URL}")
        _fetch(f"{URL}/{ZIPS[name][0]}", zipped, ZIPS[name][1])
    _unpack(zipped, folder)
    return folder


def read_alphabets(folder: Path, side: int) -> Characters:
    """Read ``<alphabet>/<character>/*.png`` below a folder, in alphabetical order.

    Raises:
        ValueError: The folder holds no alphabets of characters, or a drawing cannot be used.
    """
    characters = [c for a in data_folders(folder) for c in data_folders(a)]
    paths = [data_files(c, (".png",), deep=False) for c in characters]
    if not any(paths):
        raise ValueError(f"{folder} holds no <alphabet>/<character>/*.png: is it one level too high or too low?")
    alphabets = sorted({c.parent.name for c in characters})
    owners = [c.parent.name for c in characters]
    return Characters(
        read_drawings([p for drawings in paths for p in drawings], side),
        tuple(alphabets),
        np.array([owners.count(a) for a in alphabets]),
        np.array([len(drawings) for drawings in paths]),
        tuple(f"{c.parent.name}/{c.name}" for c in characters),
    )


def read_run(folder: Path, side: int) -> Run:
    """Read one of Lake's runs, ``class_labels.txt``: a test item and its training class on each line.

    Raises:
        ValueError: The list of labels is not as described.
        FileNotFoundError: The run has no such list.
    """
    path = folder / "class_labels.txt"
    lines = [[inner_path(name, f"{path} line {n}") for name in fields(line)] for n, line in read_lines(path)]
    if not lines or any(len(line) != 2 for line in lines):
        raise ValueError(f"{path} must hold '<test item> <training item>' on each line")
    training = sorted({line[1] for line in lines})
    exemplars = read_drawings([folder.parent / line[0] for line in lines], side)
    candidates = read_drawings([folder.parent / name for name in training], side)
    return Run(exemplars, candidates, np.array([training.index(line[1]) for line in lines]))


def read_drawings(paths: list[Path], side: int) -> np.ndarray:
    """Decode drawings in threads, as ``(N, side, side)`` uint8, black on white; see :func:`read_drawing`."""
    images = np.empty((len(paths), side, side), np.uint8)

    def fill(first: int) -> None:
        for i in range(first, min(first + CHUNK, len(paths))):
            images[i] = read_drawing(paths[i], side)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fill, range(0, len(paths), CHUNK)))
    return images


def read_drawing(path: Path, side: int) -> np.ndarray:
    """Decode one square drawing, black ink on white, and average it down to ``(side, side)`` uint8.

    1-bit, grey and color pictures are read as grey; any square size of at least ``side`` is.

    Raises:
        ValueError: Unreadable, not square, too small, transparent, 16-bit, or white ink on black.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path} is missing or no readable picture")
    if image.dtype != np.uint8:
        raise ValueError(f"{path} has {image.dtype} pixels but 1 or 8 bits are read")
    if image.ndim == 3 and image.shape[2] == 4:
        raise ValueError(f"{path} has a transparent ground (4 channels) but black ink on white is read")
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    height, width = image.shape
    if height != width or height < side:
        raise ValueError(f"{path} is {width} x {height} pixels but squares of at least {side} x {side} are read")
    if image.mean() <= PAPER:
        raise ValueError(f"{path} is mostly black (mean {image.mean():.0f} of 255): black ink on white is expected")
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _check_level(root: Path, name: str) -> None:
    if root.name in ZIPS:
        raise ValueError(f"root is {root}, one level too low: give {root.parent}")
    folders = sorted(root.glob(f"*/{name}")) if root.is_dir() else []
    if folders:
        raise ValueError(f"root is {root}, one level too high: give {folders[0].parent}")


def _unpack(zipped: Path, folder: Path) -> None:
    """Unpack into a folder beside the target and rename, so that half an archive is never taken for a whole one."""
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with zipfile.ZipFile(zipped) as archive:
            if (size := sum(entry.file_size for entry in archive.infolist())) > MAX_UNPACKED:
                raise ValueError(f"{zipped} holds {size} bytes but {MAX_UNPACKED} are the most")
            for entry in archive.infolist():
                inner_path(entry.filename, str(zipped))
            archive.extractall(part)
        inner = part / folder.name
        os.replace(inner if inner.is_dir() else part, folder)
    except (zipfile.BadZipFile, EOFError) as error:
        size = zipped.stat().st_size
        raise ValueError(f"{zipped} ({size} bytes) is truncated or no zip: delete it and fetch it again") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fetch(url: str, path: Path, md5: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(url, timeout=30) as response, open(part, "wb") as file:
            shutil.copyfileobj(response, file)
        if md5 and hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest() != md5:
            raise ValueError(f"{url} came with another checksum than {md5}: fetch it again")
        os.replace(part, path)
    except OSError as error:
        raise FileNotFoundError(f"cannot fetch {url}: {error}; put it at {path} yourself") from error
    finally:
        part.unlink(missing_ok=True)
