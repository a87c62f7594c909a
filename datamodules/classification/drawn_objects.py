"""Single objects of the drawn world, no download: every image is a function of (seed, class, number)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.classification.base import ClassImages
from datamodules.classification.catalog import PARTS, ClassImage
from datamodules.world.appearance import ObjectClass, class_seeds, make_class
from datamodules.world.draw import draw_scene
from datamodules.world.scenes import SceneClasses
from datamodules.world.sprite import DEFAULT_VARIATION, Variation
from lightning_fewshot.sampling import episode_rng

SCENE = 1.5  # side of the scene that an object is cut from, as a multiple of the image's
SCALE = (0.5, 0.8)  # diameter of the object, as a share of the scene
CONTEXT = 1.2  # side of the square that is cut, as a multiple of the box's longer side


@dataclass(frozen=True)
class ObjectSettings:
    """What drawn objects are like.

    Args:
        per_class: Images of each class, at least 1.
        variation: How far instances of a class differ.
    """

    per_class: int = 60
    variation: Variation = DEFAULT_VARIATION

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise ValueError(f"per_class is {self.per_class} but must be at least 1")


class DrawnObjects(ClassImages):
    """Objects of the drawn world, one an image, cut from scenes.

    Args:
        classes: How many classes each split has; without clutter.
        objects: How many images of each there are, and how far they differ.
        options: See :class:`ClassImages`.
    """

    decodes_first = False

    def __init__(
        self,
        classes: SceneClasses = SceneClasses(),
        objects: ObjectSettings = ObjectSettings(),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.objects = objects
        sizes = {part: getattr(classes, part) for part in PARTS}
        made = {part: [make_class(seed) for seed in class_seeds(part, **sizes)] for part in PARTS}
        self.parts: dict[str, dict[str, ObjectClass]] = {
            part: {f"{part}{i:03d} {c.name}": c for i, c in enumerate(made[part])} for part in PARTS
        }

    def list_images(self) -> list[ClassImage]:
        """List the images of the classes that are used: all, or those that train where the set is closed."""
        used = ("train",) if self.closed else PARTS
        names = [name for part in used for name in self.parts[part]]
        return [ClassImage(f"{name}/{i}", name) for name in names for i in range(self.objects.per_class)]

    def class_parts(self) -> dict[str, dict[str, ObjectClass]]:
        """Return the classes of each split."""
        return self.parts

    def attributes_of(self, image: ClassImage) -> frozenset[str]:
        """Return the shape and the pattern of the object."""
        return frozenset(image.label.partition(" ")[2].split("-")[:2])

    def read(self, image: ClassImage) -> np.ndarray:
        """Draw a scene with one object and cut this out, ``(S, S, 3)`` uint8; S differs."""
        part = next(part for part in PARTS if image.label in self.parts[part])
        rng, cls = episode_rng(self.seed, image.name, 0), self.parts[part][image.label]
        side = max(round(SCENE * self.images.stored_size), 32)
        scene = draw_scene(rng, [cls], size=side, scale=SCALE, n_occluders=(0, 1), variation=self.objects.variation)
        return cut_object(scene.image, scene.boxes[0])


def cut_object(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut a square with some context around the box ``(4,)`` of an object, moved to lie inside the image.

    >>> cut_object(np.zeros((60, 60, 3), np.uint8), np.array([50.0, 20.0, 60.0, 40.0])).shape
    (24, 24, 3)
    """
    longer = CONTEXT * max(box[2] - box[0], box[3] - box[1])
    side = min(round(float(longer)), *image.shape[:2])
    left, top = (
        int(np.clip(round(float(low + high - side) / 2), 0, length - side))
        for low, high, length in ((box[0], box[2], image.shape[1]), (box[1], box[3], image.shape[0]))
    )
    return image[top : top + side, left : left + side]
