"""Object classes of the drawn world: a class is a shape of a few parts, surface patterns and a palette.

Everything about a class follows from its seed. A class is told by its shape and its pattern: the palettes are few
and shared by many classes, and an instance may wear another one (`sprite.draw_look`), so that color alone
says little.

Coordinates: the object's own, x to the right and y down, before it is turned; the whole object lies in the unit disc.
Shapes: V vertices of an outline.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import cv2
import numpy as np

from datamodules.world.outlines import ARRANGEMENTS, BODIES, ON_TOP
from datamodules.world.textures import PATTERNS

SPLITS = ("train", "val", "test")
SPLIT_BLOCK = 10_000  # seeds set aside for a split: adding training classes leaves the test classes as they are

# RGB; the first two must differ in brightness, since they paint the pattern.
PALETTES = (
    ((196, 58, 48), (245, 226, 190), (58, 44, 60)),
    ((40, 88, 158), (232, 236, 240), (224, 160, 48)),
    ((52, 122, 66), (232, 222, 120), (110, 62, 36)),
    ((232, 168, 42), (78, 44, 30), (222, 84, 58)),
    ((120, 62, 140), (234, 200, 224), (64, 168, 160)),
    ((36, 38, 46), (226, 226, 220), (190, 46, 60)),
    ((46, 156, 160), (20, 52, 76), (240, 190, 150)),
    ((226, 122, 148), (104, 34, 60), (250, 236, 226)),
    ((142, 98, 60), (240, 214, 168), (62, 92, 58)),
    ((150, 190, 70), (40, 62, 44), (232, 232, 200)),
)


@dataclass(frozen=True, eq=False)
class Part:
    """One piece of an object: an outline, whether it has a hole, and how it is painted."""

    outline: np.ndarray  # (V, 2) float64, in the object's coordinates
    hole: float  # radius of the hole as a share of the outline's, 0 for none
    pattern: str
    frequency: float
    angle: float  # radians
    paint: int  # which pair of the palette: 0 (first, second), 1 (second, third), 2 (third, first)
    seed: int


@dataclass(frozen=True)
class ObjectClass:
    """A class of objects; two classes are equal when their seeds are.

    Attributes:
        seed: the seed that all the rest follows from.
        name: pattern, shape and seed, such as "striped-star-017".
        parts: in painting order, the body first.
        palette: index in `PALETTES` that most instances wear.
    """

    seed: int
    name: str = field(compare=False)
    parts: tuple[Part, ...] = field(compare=False, repr=False)
    palette: int = field(compare=False, repr=False)


def class_seeds(split: str, train: int = 200, val: int = 40, test: int = 60) -> tuple[int, ...]:
    """List the seeds of the classes of a split; the splits are disjoint for any counts.

    Args:
        split: "train", "val" or "test".
        train: number of training classes, 1 to `SPLIT_BLOCK`; likewise `val` and `test`.
        val: number of validation classes.
        test: number of test classes.

    Returns:
        The seeds, ascending. They depend on the count of their own split alone.

    Raises:
        ValueError: unknown split, or a count out of range.

    >>> class_seeds("val", val=3)
    (10000, 10001, 10002)
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, must be one of {SPLITS}")
    count = {"train": train, "val": val, "test": test}[split]
    if not 1 <= count <= SPLIT_BLOCK:
        raise ValueError(f"{split} is {count} classes, must be 1 to {SPLIT_BLOCK}")
    start = SPLITS.index(split) * SPLIT_BLOCK
    return tuple(range(start, start + count))


@lru_cache(maxsize=4096)
def make_class(seed: int) -> ObjectClass:
    """Draw the object class of a seed.

    Args:
        seed: any whole number from 0.

    Returns:
        The class; the same seed gives the same class in every process.

    Raises:
        ValueError: the seed is negative.

    >>> make_class(17).name == make_class(17).name
    True
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, must be at least 0")
    rng = np.random.default_rng([1, seed])
    shape, pattern = str(rng.choice(list(BODIES))), str(rng.choice(list(PATTERNS)))
    body = BODIES[shape](rng) * rng.uniform(0.55, 1.0, size=(1, 2)) ** rng.integers(0, 2)
    hole = rng.uniform(0.35, 0.55) if shape == "ring" else 0.0
    groups = [[(body, hole)]]
    limbs = [str(k) for k in rng.permutation(list(ARRANGEMENTS))[: rng.integers(1, 4)]]
    groups += [ARRANGEMENTS[kind](rng, body) for kind in limbs]
    order = sorted(range(len(groups)), key=lambda g: g > 0 and limbs[g - 1] not in ON_TOP, reverse=True)
    parts = []
    for g in order:
        style = _draw_style(rng, pattern if g == 0 else str(rng.choice(["plain", "plain", *PATTERNS])), g)
        parts += [Part(outline, hole, **style) for outline, hole in groups[g]]
    name = f"{pattern}-{shape}-{seed:03d}"
    return ObjectClass(seed, name, _fit_unit_disc(parts), int(rng.integers(len(PALETTES))))


def _draw_style(rng: np.random.Generator, pattern: str, group: int) -> dict:
    paint = 0 if group == 0 else int(rng.integers(1, 3))
    return {
        "pattern": pattern,
        "frequency": float(rng.uniform(3.0, 7.0)),
        "angle": float(rng.uniform(0, np.pi)),
        "paint": paint,
        "seed": int(rng.integers(2**31)),
    }


def _fit_unit_disc(parts: list[Part]) -> tuple[Part, ...]:
    """Move and scale all parts together so that their smallest enclosing circle becomes the unit circle."""
    points = np.concatenate([p.outline for p in parts]).astype(np.float32)
    centre, radius = cv2.minEnclosingCircle(points)
    return tuple(replace(p, outline=(p.outline - centre) / radius) for p in parts)
