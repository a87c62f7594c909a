"""Large test sets of tracking as they lie on disk: GOT-10k, LaSOT, TrackingNet, NfS."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nan

from lightning_fewshot.files import matching
from lightning_fewshot.tracking.box_files import read_boxes, read_lines
from lightning_fewshot.tracking.frames import list_images
from lightning_fewshot.tracking.sequence import Sequence, listed

NFS_FPS = 30  # of the two versions of NfS, the one that other trackers are measured on
NFS_RATE = 8  # its truth has a line for each image of the version with 240 frames a second


def read_got10k(folder: Path) -> list[Sequence]:
    """Read the validation videos of GOT-10k, or of any folder in its layout with ``list.txt``."""
    part = next((folder / p for p in ("val", "train", ".") if (folder / p / "list.txt").is_file()), None)
    if part is None:
        return []
    return [got10k_sequence(part / name) for name in listed(part / "list.txt")]


def got10k_sequence(folder: Path) -> Sequence:
    """Read one video's truth; absent is the object where ``absence.label`` is 1, or its width or height 0."""
    truth = read_boxes(folder / "groundtruth.txt")
    truth[~(truth[:, 2:] > 0).all(1)] = nan
    label = folder / "absence.label"
    if label.is_file():
        truth[flags(label, len(truth))] = nan
    return Sequence(folder.name, folder, truth)


def flags(path: Path, length: int) -> Tensor:
    """Return ``(length,)`` bool from a file of 0 and 1, one a line or all in one; False where it ends early.

    Raises:
        ValueError: A word is neither.
    """
    values = torch.zeros(length, dtype=torch.bool)
    words = [(word, place) for line, place in read_lines(path) for word in line.replace(",", " ").split()]
    for i, (word, place) in enumerate(words[:length]):
        if word not in ("0", "1"):
            raise ValueError(f"{place} holds {word[:20]!r} but must hold 0 or 1")
        values[i] = word == "1"
    return values


def read_lasot(folder: Path) -> list[Sequence]:
    """Read LaSOT (Fan et al. 2019): ``<class>/<name>/img`` or ``<name>/img``; those of ``testing_set.txt`` if there.

    Frames of full occlusion or out of view do not count, as in its toolkit.
    """
    chosen = set(listed(folder / "testing_set.txt")) if (folder / "testing_set.txt").is_file() else None
    tables = matching(folder, "*/groundtruth.txt", "*/*/groundtruth.txt")
    videos = [path.parent for path in tables if (path.parent / "img").is_dir()]
    return [_lasot_sequence(video) for video in videos if chosen is None or video.name in chosen]


def _lasot_sequence(folder: Path) -> Sequence:
    truth = read_boxes(folder / "groundtruth.txt")
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        if (folder / name).is_file():
            truth[flags(folder / name, len(truth))] = nan
    return Sequence(folder.name, folder / "img", truth, origin=1.0)


def read_trackingnet(folder: Path) -> list[Sequence]:
    """Read TrackingNet (Mueller et al. 2018): ``<part>/anno/<name>.txt``, ``<part>/frames/<name>/0.jpg``.

    Of the part TEST the first box alone is published: its videos are left out here, its server scores them.
    """
    paths = matching(folder, "T*/anno/*.txt")
    sequences = [Sequence(p.stem, p.parents[1] / "frames" / p.stem, read_boxes(p)) for p in paths]
    return [sequence for sequence in sequences if len(sequence.truth) > 1]


def read_nfs(folder: Path) -> list[Sequence]:
    """Read NfS (Kiani Galoogahi et al. 2017), 30 frames a second: ``<name>/30/<name>.txt``, ``<name>/30/<name>``."""
    return [_nfs_sequence(path) for path in matching(folder, f"*/{NFS_FPS}/*.txt")]


def _nfs_sequence(path: Path) -> Sequence:
    """Read lines ``id xmin ymin xmax ymax frame lost occluded generated "label"``; where they are eight to an image,
    every eighth.
    """
    rows = []
    for line, place in read_lines(path):
        numbers = re.split(r"\s+", line)[1:5]
        if len(numbers) != 4 or not all(re.fullmatch(r"-?\d{1,7}(\.\d+)?", n) for n in numbers):
            raise ValueError(f"{place} must have an id and xmin ymin xmax ymax, but is {line[:60]!r}")
        rows.append([float(n) for n in numbers])
    if not rows:
        raise ValueError(f"{path} has no box")
    truth, images = torch.tensor(rows, dtype=torch.float64), path.with_suffix("")
    truth[:, 2:] -= truth[:, :2]
    count = len(list_images(images)) if images.is_dir() else len(truth)
    truth = truth[::NFS_RATE] if abs(len(truth) / count - NFS_RATE) < 1 else truth
    return Sequence(path.stem, images if images.is_dir() else None, truth[:count])
