"""One object in one video of a test set: its truth, and where its images are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, tensor

from lightning_fewshot.boxes import xywh_to_xyxy
from lightning_fewshot.tracking.box_files import read_lines
from lightning_fewshot.tracking.frames import ImageFrames, list_images


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
        tags: What makes single frames hard, as VOT has it: a name and ``(T,)`` bool each.
    """

    name: str
    folder: Path | None
    truth: Tensor
    first: int | None = None
    origin: float = 0.0
    attributes: tuple[str, ...] = ()
    tags: tuple[tuple[str, Tensor], ...] = ()

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


def plain_name(name: str) -> str:
    """Return what a sequence's names in different result folders have in common.

    >>> plain_name("Jogging-1"), plain_name("jogging_1"), plain_name("Human4_2")
    ('jogging.1', 'jogging.1', 'human4')
    """
    plain = re.sub(r"[-_]", ".", name.lower())
    return "human4" if plain == "human4.2" else plain


def listed(path: Path) -> list[str]:
    """Return the names in a list file, one a line.

    Raises:
        ValueError: A name leads out of the folder; names the line.
    """
    names = [(line, place) for line, place in read_lines(path) if line]
    for name, place in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{place}: {name[:60]!r} leads out of {path.parent}")
    return [name for name, _ in names]


def read_json(path: Path) -> dict[str, Any]:
    """Return the entries of a file that holds sequences by name.

    Raises:
        ValueError: It is no json, or holds something else.
    """
    try:
        entries = json.loads("\n".join(line for line, _ in read_lines(path)))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no json: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{path} holds a {type(entries).__name__} but must hold sequences by name")
    return entries


def truth_of(entry: Any, name: str, path: Path) -> Tensor:
    """Return ``gt_rect`` of an entry, ``(T, 4)`` or ``(T, 8)`` float64.

    Raises:
        ValueError: The entry has none, or it is no table of numbers; names file and sequence.
    """
    try:
        truth = tensor(entry["gt_rect"]).double()
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path}, sequence {name}: gt_rect is no table of boxes: {error}") from error
    if truth.ndim != 2 or truth.shape[1] not in (4, 8) or not len(truth):
        raise ValueError(f"{path}, sequence {name}: gt_rect has shape {tuple(truth.shape)}, expected rows of 4 or 8")
    return truth
