"""A photo file with boxes: what every reader of detection annotations returns, and how it is read, upright."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightning_fewshot.images import FIRST_ON_ITS_SIDE, orientation, read_image

SAME_SHAPE = 0.02  # aspect ratios that differ by less are those of one picture at two scales


class IgnoredObjects(NamedTuple):
    """Objects that are neither to be found nor wrong: crowds (COCO) and difficult objects (VOC).

    Args:
        boxes: ``(K, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels.
        classes: Class of each.
        crowd: ``(K,)`` bool, a region with many objects.
    """

    boxes: np.ndarray
    classes: tuple[str, ...]
    crowd: np.ndarray


NOTHING_IGNORED = IgnoredObjects(np.zeros((0, 4), np.float32), (), np.zeros(0, bool))


class Photo(NamedTuple):
    """One annotated image file.

    Args:
        name: What it is called in episode lists and results; unique in the data set.
        path: The file.
        boxes: ``(M, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels.
        classes: Class of each box.
        size: (width, height) to which the boxes refer; None: the upright file's own.
        evaluation_only: Never used in training.
        ignored: Objects that evaluation ignores; they are not in ``boxes``.
        n_skipped: Objects that could not be used.
    """

    name: str
    path: Path
    boxes: np.ndarray
    classes: tuple[str, ...]
    size: tuple[int, int] | None = None
    evaluation_only: bool = False
    ignored: IgnoredObjects = NOTHING_IGNORED
    n_skipped: int = 0


def read_boxed(photo: Photo, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read a photo ``(H, W, 3)``, upright, and bring boxes ``(M, 4)`` of its annotation to its view and size.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, or was annotated on its side although it does not say that it is rotated.
    """
    image = read_image(photo.path)
    return image, upright_boxes(boxes, photo.size, image.shape[1::-1], photo.path)


def upright_boxes(
    boxes: np.ndarray, annotated: tuple[int, int] | None, size: tuple[int, int], path: str | Path
) -> np.ndarray:
    """Bring boxes ``(M, 4)`` to the view and size of an upright photo.

    Args:
        boxes: As annotated.
        annotated: (width, height) that they refer to: upright or as stored, at any scale; None: those of the photo.
        size: (width, height) of the upright photo.
        path: The file, which says how it is rotated.

    Raises:
        ValueError: The photo was annotated on its side although it does not say that it is rotated.
    """
    if annotated is None or annotated == size:
        return boxes
    if _on_its_side(annotated, size):
        tag = orientation(path)
        if tag < FIRST_ON_ITS_SIDE:
            raise ValueError(
                f"image {path} is annotated as {annotated[0]} x {annotated[1]} pixels but has {size[0]} x {size[1]} "
                "and no EXIF rotation: was it turned after it was annotated?"
            )
        boxes, annotated = turn_boxes(boxes, annotated, tag), annotated[::-1]
    return boxes * np.array([size[0] / annotated[0], size[1] / annotated[1]] * 2, np.float32)


def turn_boxes(boxes: np.ndarray, size: tuple[int, int], tag: int) -> np.ndarray:
    """Bring boxes ``(M, 4)`` from the stored view of a photo of (width, height) into the upright one.

    Args:
        boxes: In the stored view.
        size: Of the stored view.
        tag: EXIF orientation.

    >>> turn_boxes(np.array([[1, 2, 4, 3]]), (10, 6), 6).tolist()
    [[3.0, 1.0, 4.0, 4.0]]
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float32).reshape(-1, 4).T
    if tag in (2, 3, 7, 8):
        x1, x2 = size[0] - x2, size[0] - x1
    if tag in (3, 4, 6, 7):
        y1, y2 = size[1] - y2, size[1] - y1
    on_its_side = tag >= FIRST_ON_ITS_SIDE
    return np.stack([y1, x1, y2, x2] if on_its_side else [x1, y1, x2, y2], axis=1)


def _on_its_side(annotated: tuple[int, int], upright: tuple[int, int]) -> bool:
    """Return whether a size is that of a picture turned by 90 degrees, at any scale."""
    if annotated == upright[::-1]:
        return True
    ratio, expected = annotated[0] / annotated[1], upright[0] / upright[1]
    return abs(ratio * expected - 1) < SAME_SHAPE < abs(ratio / expected - 1)
