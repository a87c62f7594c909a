"""The test sets of tracking as they lie on disk: OTB, TempleColor-128, UAV123, VOT, GOT-10k, with their quirks.

A reader returns the sequences of a set with their truth, and decodes nothing. ``Sequence.frames()`` finds the images.

Quirks that are code here, because each moves a score: sequences whose truth starts later than their images
(``OTB_FIRST``), sequences that end before their images do (fewer boxes than images: the images are cut), two objects
in one video (``Jogging.1``, ``Jogging.2``), a truth in a file of another name (Human4), numbers separated by commas,
blanks or tabs, and files that count pixels from 1 (``Sequence.origin``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nan, tensor

from lightning_fewshot.boxes import xywh_to_xyxy
from lightning_fewshot.tracking.files import read_boxes
from lightning_fewshot.tracking.frames import ImageFrames, list_images

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


class Sequence(NamedTuple):
    """One object in one video of a test set.

    Args:
        name: As the benchmark's results call it.
        folder: Of the images; None where the set holds the truth alone.
        truth: ``(T, 4)`` float64 x, y, w, h, or ``(T, 8)`` polygons, in the coordinates of the set's files; NaN where
            the object is absent.
        first: Number of the image that the first row belongs to; None: the images' first.
        origin: Coordinate that the files give the first pixel's edge: 1 where they count from 1.
        attributes: What makes it hard, by the set's short names.
    """

    name: str
    folder: Path | None
    truth: Tensor
    first: int | None = None
    origin: float = 0.0
    attributes: tuple[str, ...] = ()

    def frames(self) -> ImageFrames:
        """Find the images, as many as the truth has rows.

        Raises:
            FileNotFoundError: An image is missing; names it.
        """
        if self.folder is None or not self.folder.is_dir():
            raise FileNotFoundError(f"sequence {self.name} has no images at {self.folder}")
        paths = list_images(self.folder)
        numbers = [int(found[-1]) if (found := re.findall(r"\d+", path.stem)) else -1 for path in paths]
        start = 0 if self.first is None else next((i for i, n in enumerate(numbers) if n >= self.first), len(paths))
        paths, numbers = paths[start:][: len(self.truth)], numbers[start:][: len(self.truth)]
        expected = range(numbers[0], numbers[0] + len(self.truth)) if numbers else range(len(self.truth))
        for number, wanted in zip([*numbers, None], expected, strict=False):
            if number != wanted:
                raise FileNotFoundError(f"frame {wanted} of sequence {self.name} is missing in {self.folder}")
        return ImageFrames(paths, self.name, self.origin)

    def boxes(self) -> Tensor:
        """Return the truth as ``(T, 4)`` float32 boxes, or ``(T, 8)`` polygons; 0 is the first pixel's edge."""
        if self.truth.shape[1] == 8:
            return (self.truth - self.origin).float()
        boxes_xywh = self.truth - self.truth.new_tensor([self.origin, self.origin, 0, 0])
        return xywh_to_xyxy(boxes_xywh).float()


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
    listed = folder / "OTB2015.json"
    attributes = _otb_attributes(folder / "OTB2015_attributes.json")
    if listed.is_file():
        found = [_otb_from_json(key, entry) for key, entry in json.loads(listed.read_text()).items()]
    else:
        found = [s for path in sorted(folder.glob("*/img")) for s in _otb_targets(path.parent)]
    return sorted(s._replace(attributes=attributes.get(plain_name(s.name), ())) for s in found)


def _otb_from_json(key: str, entry: dict) -> Sequence:
    number = key.rpartition("_")[2] if "_" in key and entry["name"] not in OTB_ONE_TARGET else None
    name = f"{entry['name']}.{number}" if number else entry["name"]
    return Sequence(name, None, tensor(entry["gt_rect"]).double(), first=_number(entry["image_files"][0]), origin=1.0)


def _otb_targets(folder: Path) -> list[Sequence]:
    files = sorted(folder.glob("groundtruth_rect*.txt"))
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
    lists = {k: v for k, v in json.loads(path.read_text()).items() if not k.startswith("att_name")}
    return {plain_name(name): tuple(filter(None, values)) for name, values in lists.items()}


def read_templecolor(folder: Path) -> list[Sequence]:
    """Read TempleColor-128 (Liang, Blasch, Ling 2015): ``<name>/<name>_gt.txt``, ``<name>_frames.txt``, ``img``."""
    found = []
    for path in sorted(folder.glob("*/*_gt.txt")):
        if path.name != f"{path.parent.name}_gt.txt":
            continue
        span = path.with_name(f"{path.parent.name}_frames.txt")
        first = int(re.findall(r"\d+", span.read_text())[0]) if span.is_file() else None
        found.append(Sequence(path.parent.name, path.parent / "img", read_boxes(path), first, 1.0))
    return found


def read_uav123(folder: Path) -> list[Sequence]:
    """Read UAV123 (Mueller, Smith, Ghanem 2016): ``anno/UAV123/<name>.txt``, ``data_seq/UAV123/<folder>``."""
    starts = {f"{v}_{i}": (v, n) for v, numbers in UAV123_PARTS.items() for i, n in enumerate(numbers, 1)}
    found = []
    for path in sorted(folder.glob("anno/UAV123/*.txt")):
        video, first = starts.get(path.stem, (path.stem, 1))
        found.append(Sequence(path.stem, folder / "data_seq/UAV123" / video, read_boxes(path), first, 1.0))
    return found


def read_vot(folder: Path) -> list[Sequence]:
    """Read VOT: ``list.txt``, ``<name>/groundtruth.txt`` (polygons), images in ``color`` or beside; or VOT2018.json."""
    if (folder / "list.txt").is_file():
        names = (folder / "list.txt").read_text().split()
        return [_vot_sequence(folder / name) for name in names]
    if (folder / "VOT2018.json").is_file():
        entries = json.loads((folder / "VOT2018.json").read_text())
        return [Sequence(name, None, tensor(entry["gt_rect"]).double()) for name, entry in entries.items()]
    return []


def _vot_sequence(folder: Path) -> Sequence:
    images = folder / "color" if (folder / "color").is_dir() else folder
    return Sequence(folder.name, images, read_boxes(folder / "groundtruth.txt", polygons=True))


def read_got10k(folder: Path) -> list[Sequence]:
    """Read the validation videos of GOT-10k, or of any folder in its layout with ``list.txt``."""
    part = next((folder / p for p in ("val", "train", ".") if (folder / p / "list.txt").is_file()), None)
    if part is None:
        return []
    names = (part / "list.txt").read_text().split()
    return [got10k_sequence(part / name) for name in names]


def got10k_sequence(folder: Path) -> Sequence:
    """Read one video's truth; absent is the object where ``absence.label`` is 1, or its width or height 0."""
    truth = read_boxes(folder / "groundtruth.txt")
    truth[~(truth[:, 2:] > 0).all(1)] = nan
    label = folder / "absence.label"
    if label.is_file():
        absent = tensor([int(word) for word in label.read_text().split()[: len(truth)]], dtype=torch.bool)
        truth[: len(absent)][absent] = nan
    return Sequence(folder.name, folder, truth)


BENCHMARKS: dict[str, tuple[Callable[[Path], list[Sequence]], tuple[str, ...], str]] = {
    "otb": (read_otb, ("OTB", "OTB2015", "OTB100"), "<name>/img and <name>/groundtruth_rect.txt, or OTB2015.json"),
    "templecolor": (read_templecolor, ("Temple-color-128", "TempleColor-128"), "<name>/<name>_gt.txt"),
    "uav123": (read_uav123, ("UAV123",), "anno/UAV123/<name>.txt and data_seq/UAV123"),
    "vot": (read_vot, ("VOT", "VOT2015", "VOT2016", "VOT2018"), "list.txt and <name>/groundtruth.txt"),
    "got10k": (read_got10k, ("GOT-10k", "videos"), "val/list.txt or train/list.txt"),
}


def plain_name(name: str) -> str:
    """Return what a sequence's names in different result folders have in common.

    >>> plain_name("Jogging-1"), plain_name("jogging_1"), plain_name("Human4_2")
    ('jogging.1', 'jogging.1', 'human4')
    """
    plain = re.sub(r"[-_]", ".", name.lower())
    return "human4" if plain == "human4.2" else plain


def _number(text: str) -> int:
    return int(re.findall(r"\d+", text)[-1])
