"""Photos with boxes as few-shot detection episodes. A data set adds one file that says how to read its photos.

Training episodes are plain batches of photos that show a training class, with all training classes labelled. In an
evaluation episode a support photo has one labelled object, the largest of its class; a query photo has every object of
the episode's classes labelled.

Shapes: M boxes of one photo.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from datamodules.images.augmentation import jitter_colors
from datamodules.images.boxed_photo import Photo, read_boxed
from datamodules.images.photos import PhotoEpisodes
from datamodules.images.reading import clean_boxes, flip, resize
from lightning_fewshot.episodes import Episode, Examples, Ignored


@dataclass(frozen=True)
class DetectionImages:
    """How photos with boxes are scaled, and augmented in training.

    Args:
        short_side: Scale photos to this shorter side in pixels; None keeps their size.
        max_side: No longer side than this; None sets no limit.
        mirror: Mirror training photos with probability one half.
        color: Color augmentation in training.
    """

    short_side: int | None = None
    max_side: int | None = None
    mirror: bool = True
    color: bool = True

    def __post_init__(self) -> None:
        for name in ("short_side", "max_side"):
            pixels = getattr(self, name)
            if pixels is not None and pixels < 1:
                raise ValueError(f"{name} is {pixels} pixels but must be at least 1, or null")


class PhotoDetection(PhotoEpisodes):
    """Few-shot detection on annotated photos.

    Args:
        root: Folder that holds the data set's folder, or that folder; None: FEWSHOT_DATA.
        images: How photos are scaled and augmented.
        options: See PhotoEpisodes.
    """

    def __init__(self, root: str | None = None, images: DetectionImages = DetectionImages(), **options) -> None:
        super().__init__(root, **options)
        self.images = images

    @abstractmethod
    def read_photos(self) -> list[Photo]:
        """Read all annotations; no image is decoded."""

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        return {**super().protocol(split), "crowd_and_difficult": "ignored"}

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val" or "test"."""
        return self._batch(index) if split == "train" else self._task(split, index)

    def _batch(self, index: int) -> Episode:
        photos, classes = self.training_batch(index, self.training_names), self.class_names()
        labelled = [rows_of(photo, classes) for photo in photos]
        query = self.examples(photos, labelled, classes, self.rng("train", index, "augmentation"))
        return Episode(
            support=None,
            query=query,
            classes=classes,
            index=index,
            class_ids=tuple(range(len(classes))),
            protocol="batch",
        )

    def _task(self, split: str, index: int) -> Episode:
        plan, photos = self.plan(split, index), self.catalog.photos
        shots = [(photos[n], (c,)) for c, names in zip(plan.classes, plan.support, strict=True) for n in names]
        labelled = [rows_of(photo, classes) for photo, classes in shots]
        if split != "test" or self.plans is None:  # a published list labels all objects of a support photo
            labelled = [_largest(photo, rows) for (photo, _), rows in zip(shots, labelled, strict=True)]
        support = self.examples([photo for photo, _ in shots], labelled, plan.classes)
        asked = [photos[name] for names in plan.query for name in names]
        query = self.examples(asked, [rows_of(photo, plan.classes) for photo in asked], plan.classes)
        names = self.catalog.split_classes[split]
        return Episode(
            support=support,
            query=query,
            classes=plan.classes,
            index=index,
            class_ids=tuple(names.index(name) for name in plan.classes),
        )

    def examples(
        self,
        photos: Sequence[Photo],
        labelled: Sequence[Sequence[int]],
        classes: tuple[str, ...],
        rng: np.random.Generator | None = None,
    ) -> Examples:
        """Read photos, with the objects ``labelled[i]`` of photo i labelled by their places in ``classes``.

        Args:
            photos: P photos.
            labelled: For each, which of its boxes.
            classes: Names of the episode's classes.
            rng: Augments the photos; None leaves them as they are.
        """
        stated = [np.concatenate((p.boxes[rows], p.ignored.boxes)) for p, rows in zip(photos, labelled, strict=True)]
        read = [self.read(photo, boxes, rng) for photo, boxes in zip(photos, stated, strict=True)]
        images = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image, _ in read]
        counts = list(map(len, labelled))
        labels = [
            torch.tensor([classes.index(photo.classes[i]) for i in rows], dtype=torch.int64)
            for photo, rows in zip(photos, labelled, strict=True)
        ]
        ignored = [_ignored(p, boxes[n:], classes) for p, (_, boxes), n in zip(photos, read, counts, strict=True)]
        same_size = len({image.shape for image in images}) == 1
        return Examples(
            torch.stack(images) if same_size else images,
            labels,
            boxes=[torch.from_numpy(boxes[:n]) for (_, boxes), n in zip(read, counts, strict=True)],
            names=tuple(photo.name for photo in photos),
            ignored=ignored if any(len(part.labels) for part in ignored) else None,
        )

    def read(self, photo: Photo, boxes: np.ndarray, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        """Read a photo ``(H, W, 3)`` and scale it and some boxes ``(M, 4)`` of it; augment both if there is ``rng``."""
        image, boxes = read_boxed(photo, boxes)
        boxes, _ = clean_boxes(boxes, image.shape[1], image.shape[0])
        image, boxes = resize(
            image=image, boxes=boxes, short_side=self.images.short_side, max_side=self.images.max_side
        )
        if rng is not None and self.images.mirror and rng.random() < 0.5:
            image, boxes = flip(image, boxes)
        if rng is not None and self.images.color:
            image = jitter_colors(image, rng)
        return image, np.ascontiguousarray(boxes, np.float32)


def _ignored(photo: Photo, boxes: np.ndarray, classes: Sequence[str]) -> Ignored:
    """Return the ignored objects of the episode's classes; ``boxes`` are those of ``photo.ignored`` in the image."""
    kept = [i for i, name in enumerate(photo.ignored.classes) if name in classes]
    return Ignored(
        boxes=torch.from_numpy(boxes[kept]),
        labels=torch.tensor([classes.index(photo.ignored.classes[i]) for i in kept], dtype=torch.int64),
        crowd=torch.from_numpy(photo.ignored.crowd[kept]),
    )


def rows_of(photo: Photo, classes: Sequence[str]) -> list[int]:
    """Return which of a photo's boxes are of these classes."""
    return [i for i, name in enumerate(photo.classes) if name in classes]


def _largest(photo: Photo, rows: Sequence[int]) -> list[int]:
    """Keep the largest of some boxes; the first one of several."""
    width, height = (photo.boxes[:, 2:] - photo.boxes[:, :2]).T
    return sorted(rows, key=lambda i: -float(width[i] * height[i]))[:1]
