"""Photos with class masks: reading them at a size, and turning their labels into the masks of an episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from datamodules.images.mask_reading import UNKNOWN, resize_pair, upright_labels
from lightning_fewshot.episodes import Examples
from lightning_fewshot.images import read_image

KEPT = 2**28  # bytes of scaled photos that a process keeps, so that a small data set is decoded once
Labelled = tuple[np.ndarray, np.ndarray]  # a photo (H, W, 3) uint8 and its labels (H, W) int16


class MaskedPhoto(NamedTuple):
    """One image file with a class mask.

    Args:
        name: What it is called in episode lists and results; unique in the data set.
        path: The file.
        mask: What the data set reads the mask from: a file, or annotations.
        classes: Classes of which enough is seen to be asked for.
        evaluation_only: Never used in training. Where a data set has such photos, evaluation uses no others.
    """

    name: str
    path: Path
    mask: Any
    classes: tuple[str, ...]
    evaluation_only: bool = False


class ScaledPhotos:
    """Read photos and their labels; those that were scaled are kept as long as there is room.

    Args:
        read_mask: Returns the labels of a photo.
        size: Side that photos are scaled to; None: their own.
    """

    def __init__(self, read_mask: Callable[[MaskedPhoto], np.ndarray], size: int | None) -> None:
        self.read_mask = read_mask
        self.size = size
        self._kept: dict[str, Labelled] = {}
        self._room = KEPT

    def read(self, photo: MaskedPhoto) -> Labelled:
        """Return a photo and its labels in their own size, upright."""
        image = read_image(photo.path)
        return image, upright_labels(self.read_mask(photo), image, photo.path, photo.name)

    def read_scaled(self, photo: MaskedPhoto) -> Labelled:
        """Return a photo and its labels, scaled to the size that is set."""
        if photo.name in self._kept:
            return self._kept[photo.name]
        image, labels = self.read(photo)
        if self.size is None:
            return image, labels
        image, labels = resize_pair(image, labels, self.size)
        needed = image.nbytes + labels.nbytes
        if needed <= self._room:
            self._kept[photo.name] = image, labels
            self._room -= needed
        return image, labels


def value_table(values: Mapping[int, int], n_classes: int, void: int) -> np.ndarray:
    """Return the value, in an episode's masks, of every label; those that are not given become background.

    Args:
        values: Value of each label, 1 + i for class i of the data set.
        n_classes: Classes of the data set.
        void: Value of void pixels, whose label is -1.

    >>> value_table({3: 1}, n_classes=3, void=255)[[0, 2, 3, -1]].tolist()
    [0, 0, 1, 255]
    """
    table = np.zeros(n_classes + 2, np.uint8)
    for label, value in values.items():
        table[label] = value
    table[UNKNOWN] = void
    return table


def as_examples(
    read: Sequence[Labelled],
    tables: Sequence[np.ndarray],
    labels: torch.Tensor | None,
    photos: Sequence[MaskedPhoto],
) -> Examples:
    """Return photos and labels as tensors, stacked where all have one size.

    Args:
        read: Photos and their labels.
        tables: For each photo, the value in the episode of every label.
        labels: Class of each.
        photos: For their names.
    """
    images = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image, _ in read]
    masks = [torch.from_numpy(table[values]) for (_, values), table in zip(read, tables, strict=True)]
    if len({image.shape for image in images}) == 1:
        images, masks = torch.stack(images), torch.stack(masks)
    return Examples(images, labels, class_masks=masks, names=tuple(photo.name for photo in photos))
