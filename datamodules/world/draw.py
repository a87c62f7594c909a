"""Scenes of the drawn world: objects of given classes among clutter, with boxes and instance masks.

What is labelled is what can be seen: a mask holds the visible pixels of an object, and its box is tight around them.
An object that would be visible by less than `min_visible` is not drawn at all, rather than drawn without a label.

Shapes: M labelled objects, (H, W) the picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datamodules.world.appearance import ObjectClass
from datamodules.world.background import draw_background, draw_occluder, finish
from datamodules.world.patch import Patch, overlap, paste
from datamodules.world.sprite import DEFAULT_VARIATION, Look, Pose, Variation, draw_angle, draw_look, render

MIN_SIZE = 32  # px; smaller pictures cannot show a pattern
TRIES = 12  # places tried for an object before it is drawn smaller, and again before it is left out
NOBODY = 0  # owner of a pixel of the ground


class Scene(NamedTuple):
    """A picture and what is labelled in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes: (M, 4) float32 (x1, y1, x2, y2), edges of pixels: the one pixel (0, 0) has the box (0, 0, 1, 1).
        labels: (M,) int64.
        masks: (M, H, W) bool, visible pixels; no two overlap.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


def draw_scene(
    rng: np.random.Generator,
    objects: Sequence[ObjectClass],
    *,
    labels: Sequence[int] | None = None,
    size: int = 160,
    scale: tuple[float, float] = (0.2, 0.56),
    clutter: Sequence[ObjectClass] = (),
    n_clutter: tuple[int, int] = (0, 3),
    n_occluders: tuple[int, int] = (0, 2),
    min_visible: float = 0.5,
    variation: Variation = DEFAULT_VARIATION,
) -> Scene:
    """Draw a scene with one instance of each entry of `objects`.

    Args:
        rng: source of all randomness; the same state gives the same bytes.
        objects: class of each labelled object; a class may come more than once.
        labels: label of each object; by default its place in `objects`.
        size: height and width in pixels, at least `MIN_SIZE`.
        scale: smallest and greatest diameter of an object, as a share of `size`.
        clutter: classes that unlabelled objects are drawn from: none that must not appear unlabelled.
        n_clutter: fewest and most unlabelled objects; counts only where `clutter` is given.
        n_occluders: fewest and most unlabelled things in front of the objects.
        min_visible: least share of each labelled object that is neither covered nor outside the picture, in (0, 1].
        variation: how far instances differ.

    Returns:
        The scene, objects in their order. One alone is always there if it fits; in a crowd some may lack: see `labels`.

    Raises:
        ValueError: a count that does not fit, a number out of bounds, or a class that is both labelled and clutter.
    """
    labels = _check(objects, labels, size, scale, clutter, n_clutter, n_occluders, min_visible)
    canvas = _Canvas(draw_background(rng, size), min_visible)
    others = [clutter[i] for i in rng.integers(len(clutter), size=_count(rng, n_clutter))] if clutter else []
    canvas.add_objects(rng, objects, others, scale=scale, variation=variation)
    canvas.add_occluders(rng, _count(rng, n_occluders))
    masks, boxes, kept = canvas.visible(len(objects))
    return Scene(image=finish(rng, canvas.picture), boxes=boxes, labels=np.asarray(labels, np.int64)[kept], masks=masks)


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Find the tight box of each mask.

    Args:
        masks: (M, H, W) bool.

    Returns:
        (M, 4) float32 (x1, y1, x2, y2), edges of pixels; NaN for an empty mask.

    >>> mask_boxes(np.array([[[0, 0, 0], [0, 1, 1]], [[0, 0, 0], [0, 0, 0]]], bool)).tolist()
    [[1.0, 1.0, 3.0, 2.0], [nan, nan, nan, nan]]
    """
    rows, columns = masks.any(axis=2), masks.any(axis=1)
    x1, y1 = columns.argmax(1), rows.argmax(1)
    x2, y2 = masks.shape[2] - columns[:, ::-1].argmax(1), masks.shape[1] - rows[:, ::-1].argmax(1)
    boxes = np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)
    boxes[~rows.any(1)] = np.nan
    return boxes


class _Canvas:
    """A picture under way, and to whom each pixel belongs: 0 nobody, or the number of a labelled object from 1."""

    def __init__(self, picture: np.ndarray, min_visible: float):
        self.picture = picture
        self.owner = np.full(picture.shape[:2], NOBODY, np.uint8)
        self.min_visible = min_visible
        self.spare = np.full(256, np.inf)  # pixels that each labelled object may yet lose

    def add_objects(
        self,
        rng: np.random.Generator,
        objects: Sequence[ObjectClass],
        others: Sequence[ObjectClass],
        *,
        scale: tuple[float, float],
        variation: Variation,
    ) -> None:
        """Draw labelled and unlabelled objects in a random order."""
        cast = [(cls, k + 1) for k, cls in enumerate(objects)] + [(cls, NOBODY) for cls in others]
        for i in rng.permutation(len(cast)):
            self.add_object(rng, *cast[i], scale, variation)

    def add_occluders(self, rng: np.random.Generator, count: int) -> None:
        """Draw unlabelled things in front of all objects."""
        for _ in range(count):
            self.add(draw_occluder(rng, self.picture.shape[0]), NOBODY)

    def add_object(
        self,
        rng: np.random.Generator,
        cls: ObjectClass,
        number: int,
        scale: tuple[float, float],
        variation: Variation,
    ) -> bool:
        """Draw an instance somewhere; where there is no room, smaller; where there is still none, not at all."""
        size = self.picture.shape[0]
        look, angle = draw_look(rng, cls, variation), draw_angle(rng, variation)
        diameter = size * np.exp(rng.uniform(*np.log(scale)))
        return self._try_places(
            rng=rng, cls=cls, look=look, number=number, diameter=diameter, angle=angle
        ) or self._try_places(rng=rng, cls=cls, look=look, number=number, diameter=size * scale[0], angle=angle)

    def _try_places(
        self, rng: np.random.Generator, cls: ObjectClass, look: Look, number: int, diameter: float, angle: float
    ) -> bool:
        size = self.picture.shape[0]
        patch = render(cls, look, Pose(0.0, 0.0, diameter, angle))
        margin = min(0.3 * diameter, size / 2)  # the centre stays this far inside the picture
        places = rng.integers(int(margin), max(int(size - margin), int(margin) + 1), size=(TRIES, 2)).tolist()
        for x, y in [*places, (size // 2, size // 2)]:
            if self.add(patch._replace(left=patch.left + x, top=patch.top + y), number):
                return True
        return False

    def add(self, patch: Patch, number: int) -> bool:
        """Put a patch on top, unless a labelled object would then be visible by less than `min_visible`."""
        rows, columns, inner = overlap(patch, self.owner.shape)
        mask = patch.mask
        seen = mask[inner]
        total, inside = np.count_nonzero(mask), np.count_nonzero(seen)
        if number and (total == 0 or inside < self.min_visible * total):
            return False
        region = self.owner[rows, columns]
        lost = np.bincount(region[seen], minlength=256)
        lost[NOBODY] = 0
        if (lost > self.spare).any():
            return False
        self.spare -= lost
        if number:
            self.spare[number] = inside - self.min_visible * total
        region[seen] = number
        paste(self.picture, patch)
        return True

    def visible(self, n_objects: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read off the masks (M, H, W), the boxes (M, 4) and the places (M,) of the objects that were drawn."""
        kept = np.flatnonzero(np.isfinite(self.spare[1 : n_objects + 1]))
        masks = self.owner == (kept + 1).astype(np.uint8)[:, None, None]
        return masks, mask_boxes(masks), kept


def _count(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(rng.integers(bounds[0], bounds[1] + 1))


def _check(
    objects: Sequence[ObjectClass],
    labels: Sequence[int] | None,
    size: int,
    scale: tuple[float, float],
    clutter: Sequence[ObjectClass],
    n_clutter: tuple[int, int],
    n_occluders: tuple[int, int],
    min_visible: float,
) -> Sequence[int]:
    """Refuse what cannot be drawn; return the labels."""
    if not 1 <= len(objects) <= 254:
        raise ValueError(f"objects has {len(objects)} classes, must have 1 to 254")
    labels = range(len(objects)) if labels is None else labels
    if len(labels) != len(objects):
        raise ValueError(f"labels has {len(labels)} entries but objects has {len(objects)}")
    if size < MIN_SIZE:
        raise ValueError(f"size is {size} px, must be at least {MIN_SIZE}")
    if not 4 / size <= scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale is {scale}, must be 4 px ({4 / size:.3f}) <= smallest <= greatest <= 1")
    for name, bounds in (("n_clutter", n_clutter), ("n_occluders", n_occluders)):
        if not 0 <= bounds[0] <= bounds[1]:
            raise ValueError(f"{name} is {bounds}, must be 0 <= fewest <= most")
    if not 0 < min_visible <= 1:
        raise ValueError(f"min_visible is {min_visible}, must be in (0, 1]")
    both = set(objects) & set(clutter)
    if both:
        raise ValueError(f"clutter has the labelled classes {sorted(c.name for c in both)}")
    return labels
