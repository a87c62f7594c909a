"""Class masks as ``(H, W)`` int16: 0 background, 1 + i class i, -1 void."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from lightning_fewshot.images import FIRST_ON_ITS_SIDE, orientation, turn_upright

UNKNOWN = -1  # void: the truth is not known here


def label_map(values: np.ndarray, table: Mapping[int, int], path: str | Path) -> np.ndarray:
    """Turn stored values into ``(H, W)`` int16 labels.

    Args:
        values: ``(H, W)`` integers.
        table: The label of each allowed value: 0, 1 + i, or -1.
        path: For the error.

    Raises:
        ValueError: A value is not in the table; names the file, the value and what is allowed.

    >>> label_map(np.array([[0, 7], [255, 7]]), {0: 0, 7: 1, 255: -1}, "cat.png").tolist()
    [[0, 1], [-1, 1]]
    >>> label_map(np.array([[3]]), {0: 0, 7: 1}, "cat.png")
    Traceback (most recent call last):
    ValueError: mask cat.png has the value 3 but the allowed values are 0, 7
    """
    allowed = np.array(sorted(table))
    places = np.searchsorted(allowed, values).clip(max=len(allowed) - 1)
    if not (good := allowed[places] == values).all():
        shown = ", ".join(map(str, allowed[:30].tolist())) + (", ..." if len(allowed) > 30 else "")
        raise ValueError(f"mask {path} has the value {int(values[~good][0])} but the allowed values are {shown}")
    return np.array([table[v] for v in allowed.tolist()], np.int16)[places]


def areas_of(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> list[np.ndarray]:
    """Count the pixels of each label in many masks.

    Args:
        paths: Mask files.
        read: Turns one into ``(H, W)`` labels.

    Returns:
        For each path, the count of label i at place i, up to the highest label that it has; void is left out.
    """

    def count(path: Path) -> np.ndarray:
        labels = read(path)
        return np.bincount(labels[labels != UNKNOWN].ravel())

    with ThreadPoolExecutor(4) as pool:  # decoding releases the lock
        return list(pool.map(count, paths))


def resize_pair(image: np.ndarray, labels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale an image and its mask to a square; labels are not mixed.

    >>> image, labels = resize_pair(np.zeros((4, 8, 3), np.uint8), np.eye(4, 8, dtype=np.int16), 2)
    >>> image.shape, labels.tolist()
    ((2, 2, 3), [[1, 0], [0, 0]])
    """
    if image.shape[:2] == (side, side):
        return image, labels
    method = cv2.INTER_AREA if side < max(image.shape[:2]) else cv2.INTER_LINEAR
    small = cv2.resize(image, (side, side), interpolation=method)
    return small, cv2.resize(labels, (side, side), interpolation=cv2.INTER_NEAREST)


def upright_labels(labels: np.ndarray, image: np.ndarray, path: Path, name: str) -> np.ndarray:
    """Return a mask in the view of its upright photo; one that was painted on the stored, unrotated photo is turned.

    Raises:
        ValueError: The mask has another size than the photo; names both.
    """
    if image.shape[:2] == labels.shape:
        return labels
    if image.shape[1::-1] == labels.shape and (tag := orientation(path)) >= FIRST_ON_ITS_SIDE:
        return turn_upright(labels, tag)
    mask, photo = labels.shape[::-1], image.shape[1::-1]
    raise ValueError(f"{name}: the mask has {mask[0]} x {mask[1]} pixels but the photo {photo[0]} x {photo[1]}")
