"""The test sets of tracking as they lie on disk: OTB, TempleColor-128, UAV123, VOT, with their quirks.

``BENCHMARKS`` names them all, those of ``large_sets`` too.

A reader returns the sequences of a set with their truth, and decodes nothing. ``Sequence.frames()`` finds the images.

Quirks that are code here, because each moves a score: sequences whose truth starts later than their images
(``OTB_FIRST``), sequences that end before their images do (fewer boxes than images: the images are cut), two objects
in one video (``Jogging.1``, ``Jogging.2``), a truth in a file of another name (Human4), numbers separated by commas,
blanks or tabs, and files that count pixels from 1 (``Sequence.origin``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fewshot.files import matching
from lightning_fewshot.tracking.box_files import read_boxes, read_lines
from lightning_fewshot.tracking.large_sets import read_got10k, read_lasot, read_nfs, read_trackingnet
from lightning_fewshot.tracking.sequence import Sequence, listed, plain_name, read_json, truth_of
from lightning_fewshot.tracking.vot_tags import read_tags, tags_of

# The number of the image that the first line of the truth belongs to (Wu et al. 2015, configSeqs.m of the benchmark).
OTB_FIRST = {"David": 300, "BlurCar1": 247, "BlurCar3": 3, "BlurCar4": 18}
OTB_ONE_TARGET = ("Human4",)  # has two truths, of which OTB-100 counts the second
# The part of a video that a sequence is: folder and first image (Mueller et al. 2016, configSeqs.m of UAV123). Every
# other sequence has the name of its folder and starts at image 1.
UAV123_PARTS = {
    "bird1": (1, 775, 1573),
    "car1": (1, 751, 1627),
    "car6": (1, 487, 1807, 2953, 3925),
    "car8": (1, 1357),
    "car16": (1, 415),
    "group1": (1, 1333, 2515, 3925),
    "group2": (1, 907, 1771),
    "group3": (1, 1567, 2827, 4369),
    "person2": (1, 1189),
    "person4": (1, 1501),
    "person5": (1, 877),
    "person7": (1, 1249),
    "person8": (1, 1075),
    "person12": (1, 601),
    "person14": (1, 847, 1813),
    "person17": (1, 1501),
    "person19": (1, 1243, 2791),
    "truck4": (1, 577),
    "uav1": (1, 1555, 2473),
}


def read_benchmark(name: str, root: str | Path) -> list[Sequence]:
    """Read a test set.

    Args:
        name: One of ``BENCHMARKS``.
        root: Its folder, or the folder that holds it.

    Raises:
        FileNotFoundError: Nothing of it is at ``root``; says what is expected there.
        ValueError: There is no such benchmark.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark is {name!r} but must be one of {', '.join(BENCHMARKS)}")
    reader, folders, expected = BENCHMARKS[name]
    root = Path(root).expanduser()
    for folder in (root, *(root / part for part in folders)):
        if folder.is_dir() and (found := reader(folder)):
            return found
    raise FileNotFoundError(f"there is no {name} at {root}: expected {expected}, there or in {' or '.join(folders)}")


def read_otb(folder: Path) -> list[Sequence]:
    """Read OTB as its authors publish it, or OTB2015.json with the truth alone (and OTB2015_attributes.json)."""
    table = folder / "OTB2015.json"
    attributes = _otb_attributes(folder / "OTB2015_attributes.json")
    if table.is_file():
        sequences = [_otb_from_json(key, entry, table) for key, entry in read_json(table).items()]
    else:
        sequences = [s for path in matching(folder, "*/img") for s in _otb_targets(path.parent)]
    return sorted(s._replace(attributes=attributes.get(plain_name(s.name), ())) for s in sequences)


def _otb_from_json(key: str, entry: Any, path: Path) -> Sequence:
    truth = truth_of(entry, key, path)
    try:
        video, first = str(entry["name"]), _number(str(entry["image_files"][0]))
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}, sequence {key}: name or image_files is missing or empty") from error
    number = key.rpartition("_")[2] if "_" in key and video not in OTB_ONE_TARGET else None
    return Sequence(f"{video}.{number}" if number else video, None, truth, first=first, origin=1.0)


def _otb_targets(folder: Path) -> list[Sequence]:
    files = matching(folder, "groundtruth_rect*.txt")
    if folder.name in OTB_ONE_TARGET:
        files = files[-1:]
    several = len(files) > 1
    return [
        Sequence(
            f"{folder.name}.{_number(path.stem)}" if several else folder.name,
            folder / "img",
            read_boxes(path),
            OTB_FIRST.get(folder.name),
            1.0,
        )
        for path in files
    ]


def _otb_attributes(path: Path) -> dict[str, tuple[str, ...]]:
    if not path.is_file():
        return {}
    lists = {k: v for k, v in read_json(path).items() if not k.startswith("att_name")}
    for name, values in lists.items():
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise ValueError(f"{path}, sequence {name}: attributes must be a list of names")
    return {plain_name(name): tuple(filter(None, values)) for name, values in lists.items()}


def read_templecolor(folder: Path) -> list[Sequence]:
    """Read TempleColor-128 (Liang, Blasch, Ling 2015): ``<name>/<name>_gt.txt``, ``<name>_frames.txt``, ``img``."""
    sequences = []
    for path in matching(folder, "*/*_gt.txt"):
        if path.name != f"{path.parent.name}_gt.txt":
            continue
        span = path.with_name(f"{path.parent.name}_frames.txt")
        first = _first_number(span) if span.is_file() else None
        sequences.append(Sequence(path.parent.name, path.parent / "img", read_boxes(path), first, 1.0))
    return sequences


def read_uav123(folder: Path) -> list[Sequence]:
    """Read UAV123 (Mueller, Smith, Ghanem 2016): ``anno/UAV123/<name>.txt``, ``data_seq/UAV123/<folder>``."""
    starts = {f"{v}_{i}": (v, n) for v, numbers in UAV123_PARTS.items() for i, n in enumerate(numbers, 1)}
    sequences = []
    for path in matching(folder, "anno/UAV123/*.txt"):
        video, first = starts.get(path.stem, (path.stem, 1))
        sequences.append(Sequence(path.stem, folder / "data_seq/UAV123" / video, read_boxes(path), first, 1.0))
    return sequences


def read_vot(folder: Path) -> list[Sequence]:
    """Read VOT: ``list.txt``, ``<name>/groundtruth.txt`` (polygons), images in ``color`` or beside; or VOT2018.json.

    Frames are tagged in ``<name>/<tag>.tag`` or ``.label``, and in the json.
    """
    if (folder / "list.txt").is_file():
        return [_vot_sequence(folder / name) for name in listed(folder / "list.txt")]
    if (truth := folder / "VOT2018.json").is_file():
        return [_vot_entry(name, entry, truth) for name, entry in read_json(truth).items()]
    return []


def _vot_entry(name: str, entry: Any, path: Path) -> Sequence:
    truth = truth_of(entry, name, path)
    return Sequence(name, None, truth, tags=tags_of(entry, len(truth), name, path))


def _vot_sequence(folder: Path) -> Sequence:
    images = folder / "color" if (folder / "color").is_dir() else folder
    truth = read_boxes(folder / "groundtruth.txt", polygons=True)
    return Sequence(folder.name, images, truth, tags=read_tags(folder, len(truth)))


BENCHMARKS: dict[str, tuple[Callable[[Path], list[Sequence]], tuple[str, ...], str]] = {
    "otb": (read_otb, ("OTB", "OTB2015", "OTB100"), "<name>/img and <name>/groundtruth_rect.txt, or OTB2015.json"),
    "templecolor": (read_templecolor, ("Temple-color-128", "TempleColor-128"), "<name>/<name>_gt.txt"),
    "uav123": (read_uav123, ("UAV123",), "anno/UAV123/<name>.txt and data_seq/UAV123"),
    "vot": (read_vot, ("VOT", "VOT2015", "VOT2016", "VOT2018"), "list.txt and <name>/groundtruth.txt"),
    "got10k": (read_got10k, ("GOT-10k", "videos"), "val/list.txt or train/list.txt"),
    "lasot": (read_lasot, ("LaSOT", "LaSOTBenchmark"), "<class>/<name>/img and <class>/<name>/groundtruth.txt"),
    "trackingnet": (read_trackingnet, ("TrackingNet",), "<part>/anno/<name>.txt with the truth of all frames"),
    "nfs": (read_nfs, ("NfS", "Nfs", "NFS"), "<name>/30/<name>.txt and <name>/30/<name>"),
}


def _first_number(path: Path) -> int:
    for line, place in read_lines(path):
        if numbers := re.findall(r"\d{1,9}", line):
            return int(numbers[0])
        raise ValueError(f"{place} must begin with the number of the first image, but is {line[:60]!r}")
    raise ValueError(f"{path} is empty but must say the number of the first image")


def _number(text: str) -> int:
    return int(re.findall(r"\d{1,9}", text)[-1])
