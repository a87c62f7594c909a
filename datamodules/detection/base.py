"""Photos with boxes as few-shot detection episodes. A data set adds one file that says how to read its photos."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datamodules.images.augmentation import jitter_colors
from datamodules.images.photos import PhotoEpisodes
from datamodules.images.reading import clean_boxes, flip, read_photo, resize
from lightning_fewshot.episodes import Episode, Examples


class Photo(NamedTuple):
    """One annotated image file.

    Args:
        name: What it is called in episode lists and results; unique in the data set.
        path: The file.
        boxes: ``(M, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels.
        classes: Class of each box.
        size: (width, height) to which the boxes refer; None: the file's own.
        held_out: Never used in training.
    """

    name: str
    path: Path
    boxes: np.ndarray
    classes: tuple[str, ...]
    size: tuple[int, int] | None = None
    held_out: bool = False


class PhotoDetection(PhotoEpisodes):
    """Few-shot detection on annotated photos.

    Training episodes are plain batches of photos that show a training class, with all training classes labelled.
    Evaluation episodes use no training photo: a support photo has one labelled object, the largest of its class; a
    query photo has every object of the episode's classes labelled.

    Args:
        short_side: Scale photos to this shorter side in pixels; None keeps their size.
        max_side: No longer side than this.
        options: See PhotoEpisodes.
    """

    def __init__(self, short_side: int | None = None, max_side: int | None = None, **options) -> None:
        super().__init__(**options)
        self.short_side, self.max_side = short_side, max_side

    @abstractmethod
    def read_photos(self) -> list[Photo]:
        """Read all annotations; no image is decoded."""

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val" or "test"."""
        return self._batch(index) if split == "train" else self._task(split, index)

    def _batch(self, index: int) -> Episode:
        """Walk through the photos in an order that is drawn anew for each pass."""
        total = len(self.training_names)
        places = range(index * self.batch_size, (index + 1) * self.batch_size)
        drawn = [self.photos[self.training_names[self._permutation(p // total)[p % total]]] for p in places]
        rng = self.rng("train", index, "augmentation")
        query = self._examples(drawn, [self.class_names()] * len(drawn), self.class_names(), rng)
        return Episode(None, query, self.class_names(), index, tuple(range(len(self.class_names()))))

    def _task(self, split: str, index: int) -> Episode:
        fixed = split == "test" and self.plans is not None
        plan = self._plan(split, index)
        shots = [(self.photos[n], (c,)) for c, names in zip(plan.classes, plan.support, strict=True) for n in names]
        support = self._examples([p for p, _ in shots], [c for _, c in shots], plan.classes, one=not fixed)
        asked = [self.photos[name] for names in plan.query for name in names]
        query = self._examples(asked, [plan.classes] * len(asked), plan.classes)
        numbers = tuple(self.split_classes[split].index(name) for name in plan.classes)
        return Episode(support, query, plan.classes, index, numbers)

    def _examples(
        self,
        photos: Sequence[Photo],
        labelled: Sequence[tuple[str, ...]],
        classes: tuple[str, ...],
        rng: np.random.Generator | None = None,
        one: bool = False,
    ) -> Examples:
        """Read photos; of photo i the classes ``labelled[i]`` are labelled, with only the largest object if ``one``."""
        images, boxes, labels = [], [], []
        number = {name: i for i, name in enumerate(classes)}
        for photo, shown in zip(photos, labelled, strict=True):
            rows = [i for i, name in enumerate(photo.classes) if name in shown and name in number]
            if one:
                rows = sorted(rows, key=lambda i, b=photo.boxes: -float((b[i, 2] - b[i, 0]) * (b[i, 3] - b[i, 1])))[:1]
            image, found = self._read(photo, photo.boxes[rows], rng)
            images.append(torch.from_numpy(image).permute(2, 0, 1).contiguous())
            boxes.append(torch.from_numpy(found))
            labels.append(torch.tensor([number[photo.classes[i]] for i in rows], dtype=torch.int64))
        same = len({image.shape for image in images}) == 1
        return Examples(torch.stack(images) if same else images, labels, boxes, names=tuple(p.name for p in photos))

    def _read(self, photo: Photo, boxes: np.ndarray, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        image = read_photo(photo.path, photo.size)
        height, width = image.shape[:2]
        if photo.size is not None and photo.size != (width, height):  # annotated at another scale
            boxes = boxes * np.array([width / photo.size[0], height / photo.size[1]] * 2, np.float32)
        image, boxes = resize(image, clean_boxes(boxes, width, height)[0], self.short_side, self.max_side)
        if rng is not None and self.mirror and rng.random() < 0.5:
            image, boxes = flip(image, boxes)
        if rng is not None and self.color:
            image = jitter_colors(image, rng)
        return image, np.ascontiguousarray(boxes, np.float32)
