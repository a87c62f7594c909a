"""Instances of an object class: what differs from one to the next, and how one is put on a picture.

A class is painted once as a template (`template`). An instance has a look, which it keeps for life (colors, light,
deformation), and a pose, which changes when it moves; `render` warps the template by both into a small patch.

Shapes: R side of a template, (h, w) a patch.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from datamodules.world.appearance import PALETTES, ObjectClass, Part
from datamodules.world.patch import Patch
from datamodules.world.textures import surface

TEMPLATE_SIZE = 128  # px; objects drawn larger than this are painted from a template of twice or four times the size
LEVELS = 85  # of a palette pair: three pairs fill a byte
FILL = 0.92  # radius of the object in its template; the rest is margin


@dataclass(frozen=True)
class Variation:
    """How far instances of a class differ. Zero in every field gives identical instances, upright and as painted.

    Attributes:
        rotation: greatest turn to either side, in degrees.
        stretch: standard deviation of the logarithm of height over width.
        tilt: greatest perspective foreshortening to either side, in [0, 0.5).
        deform: standard deviation of the bending, as a share of the object's radius.
        hue: standard deviation of the change of hue, in degrees.
        tone: greatest relative change of saturation and brightness, in [0, 1).
        repaint: share of instances that wear another palette than their class.
        light: greatest relative change of brightness from the middle of an instance to its border, in [0, 1).
    """

    rotation: float = 30.0
    stretch: float = 0.1
    tilt: float = 0.15
    deform: float = 0.04
    hue: float = 12.0
    tone: float = 0.3
    repaint: float = 0.4
    light: float = 0.3

    def __post_init__(self) -> None:
        most = {"tilt": 0.5, "tone": 1.0, "light": 1.0}
        for name in ("rotation", "stretch", "tilt", "deform", "hue", "tone", "repaint", "light"):
            value = getattr(self, name)
            if value < 0 or value >= most.get(name, np.inf) or (name == "repaint" and value > 1):
                limit = {"repaint": " and at most 1"}.get(name, f" and below {most[name]}" if name in most else "")
                raise ValueError(f"{name} is {value} but must be at least 0{limit}")


DEFAULT_VARIATION = Variation()


class Look(NamedTuple):
    """What an instance keeps for life."""

    colors: np.ndarray  # (1, 256, 3) uint8, from the template's index to RGB
    light: np.ndarray  # (2,) brightness per radius to the right and down
    bend: np.ndarray  # (4, 4, 2) float32, displacement at a grid over the patch, in radii
    stretch: float  # height over width
    tilt: np.ndarray  # (2,) foreshortening to the right and down


class Pose(NamedTuple):
    """Where an instance is: centre in pixels, diameter in pixels, turn in radians."""

    x: float
    y: float
    size: float
    angle: float


@lru_cache(maxsize=1024)
def template(cls: ObjectClass, resolution: int = TEMPLATE_SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paint a class once.

    Args:
        cls: the object class.
        resolution: side R in pixels.

    Returns:
        index (R, R, 3) uint8, the same in all channels, to be looked up in `Look.colors`;
        shade (R, R, 3) uint8, brightness by relief, 255 for none; alpha (R, R) uint8.
    """
    index = np.zeros((resolution, resolution), np.uint8)
    shade = np.full((resolution, resolution), 255, np.float32)
    alpha = np.zeros((resolution, resolution), np.uint8)
    for part in cls.parts:
        cover = _cover(part, resolution)
        value = surface(part.pattern, part.frequency, part.angle, part.seed, resolution)
        # Paint a little beyond the outline, so that interpolation at the border finds the part's own color.
        wide = cv2.dilate(cover, np.ones((5, 5), np.uint8)) if not alpha.any() else cover
        index = np.where(wide >= 128, (value * (LEVELS - 1)).astype(np.uint8) + LEVELS * part.paint, index)
        depth = cv2.distanceTransform((cover >= 128).astype(np.uint8), cv2.DIST_L2, 3) / resolution
        relief = 255 * (0.6 + 0.4 * np.clip(depth / 0.06, 0, 1))
        shade = np.where(cover >= 128, relief, shade)
        alpha = np.maximum(alpha, cover)
    hidden = (alpha < 128).astype(np.uint8)
    index = np.where(hidden, _spread(index, hidden), index)
    shade = np.where(hidden, 153, shade).astype(np.uint8)
    painted = (cv2.merge([index] * 3), cv2.merge([shade] * 3), alpha)
    for array in painted:
        array.setflags(write=False)
    return painted


def _cover(part: Part, resolution: int) -> np.ndarray:
    """Coverage of a part, (R, R) uint8; drawn at twice the size and averaged."""
    big = np.zeros((2 * resolution, 2 * resolution), np.uint8)
    points = (part.outline * FILL + 1) * resolution
    cv2.fillPoly(big, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    if part.hole:
        inner = points.mean(0) + part.hole * (points - points.mean(0))
        cv2.fillPoly(big, [np.round(inner * 16).astype(np.int32)], 0, cv2.LINE_AA, shift=4)
    return cv2.resize(big, (resolution, resolution), interpolation=cv2.INTER_AREA)


def _spread(index: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Give every hidden pixel the index of the nearest pixel that is not hidden."""
    _, label = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    lookup = np.zeros(label.max() + 1, np.uint8)
    lookup[label[hidden == 0]] = index[hidden == 0]
    return lookup[label]


def draw_look(rng: np.random.Generator, cls: ObjectClass, variation: Variation = DEFAULT_VARIATION) -> Look:
    """Draw what an instance of a class keeps for life.

    Args:
        rng: source of randomness.
        cls: the object class.
        variation: how far instances differ.

    Returns:
        The look.
    """
    palette = cls.palette
    if rng.random() < variation.repaint:
        palette = int(rng.integers(len(PALETTES)))
    direction = rng.uniform(0, 2 * np.pi)
    strength = variation.light * rng.random()
    return Look(
        colors=_ramps(_tint(np.array(PALETTES[palette], np.uint8), rng, variation)),
        light=strength * np.array([np.cos(direction), np.sin(direction)]),
        bend=(variation.deform * rng.standard_normal((4, 4, 2))).astype(np.float32),
        stretch=float(np.exp(variation.stretch * rng.standard_normal())),
        tilt=variation.tilt * rng.uniform(-1, 1, 2),
    )


def draw_angle(rng: np.random.Generator, variation: Variation) -> float:
    """Draw the turn of an instance, in radians."""
    return float(np.deg2rad(rng.uniform(-variation.rotation, variation.rotation)))


def _tint(colors: np.ndarray, rng: np.random.Generator, variation: Variation) -> np.ndarray:
    """Change hue, saturation and brightness of (3, 3) uint8 RGB colors together."""
    hsv = cv2.cvtColor(colors[None], cv2.COLOR_RGB2HSV)[0].astype(np.float32)  # hue in half degrees
    hsv[:, 0] = (hsv[:, 0] + variation.hue / 2 * rng.standard_normal()) % 180
    hsv[:, 1:] *= 1 + variation.tone * rng.uniform((-1, -1), (0.6, 0.4))
    return cv2.cvtColor(np.clip(hsv, 0, (179, 255, 255)).astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]


def _ramps(colors: np.ndarray) -> np.ndarray:
    """Make the table (1, 256, 3) that holds the ramps between the three pairs of (3, 3) colors."""
    mix = np.linspace(0, 1, LEVELS, dtype=np.float32)[:, None]
    table = np.zeros((1, 256, 3), np.uint8)
    for pair in range(3):
        ramp = colors[pair] * (1 - mix) + colors[(pair + 1) % 3] * mix
        table[0, pair * LEVELS : (pair + 1) * LEVELS] = ramp
    return table


def render(cls: ObjectClass, look: Look, pose: Pose) -> Patch:
    """Draw an instance into a patch just large enough for it.

    Args:
        cls: the object class.
        look: the instance's look.
        pose: where it is; the centre may lie anywhere, the size is at least 4 px.

    Returns:
        The patch; the fraction of the pose's centre is kept, so that a moving instance does not jump by whole pixels.
    """
    reach = 1.06 * max(look.stretch, 1 / look.stretch) ** 0.5 / (1 - np.hypot(*look.tilt))
    half = int(np.ceil(pose.size / 2 * reach)) + 1
    left, top = int(np.floor(pose.x)) - half, int(np.floor(pose.y)) - half
    x = ((np.arange(2 * half + 1) + 0.5 + left - pose.x) * (2 / pose.size)).astype(np.float32)  # in radii
    y = ((np.arange(2 * half + 1) + 0.5 + top - pose.y) * (2 / pose.size)).astype(np.float32)
    painted = _paint(cls, look, pose.size)
    resolution = painted.shape[0]
    at = _object_coordinates(look, pose.angle, x, y)
    at = at * np.float32(FILL * resolution / 2) + np.float32(resolution / 2 - 0.5)
    patch = cv2.remap(painted, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    rgb, alpha = cv2.cvtColor(patch, cv2.COLOR_RGBA2RGB), cv2.extractChannel(patch, 3)
    if look.light.any():
        brightness = np.clip(128 * (1 + np.float32(look.light[0]) * x + np.float32(look.light[1]) * y[:, None]), 0, 255)
        rgb = cv2.multiply(rgb, cv2.merge([brightness.astype(np.uint8)] * 3), scale=1 / 128)
    return Patch(rgb, alpha, left, top)


def _object_coordinates(look: Look, angle: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Find the object's coordinates of patch columns x (w,) and rows y (h,), both in radii; (h, w, 2) float32."""
    cos, sin, root = np.cos(angle), np.sin(angle), look.stretch**0.5
    a, b = np.float32(cos * root), np.float32(sin * root)
    c, d = np.float32(-sin / root), np.float32(cos / root)
    x, y = x[None, :], y[:, None]
    depth = 1 / (1 + np.float32(look.tilt[0]) * x + np.float32(look.tilt[1]) * y)
    at = cv2.resize(look.bend, (x.size, y.size), interpolation=cv2.INTER_CUBIC)
    at[..., 0] += (a * x + b * y) * depth
    at[..., 1] += (c * x + d * y) * depth
    return at


def _paint(cls: ObjectClass, look: Look, size: float) -> np.ndarray:
    """Color the template of about the resolution that `size` pixels need; (R, R, 4) uint8."""
    resolution = TEMPLATE_SIZE
    while resolution < size and resolution < 4 * TEMPLATE_SIZE:
        resolution *= 2
    index, shade, alpha = template(cls, resolution)
    rgb = cv2.multiply(cv2.LUT(index, look.colors), shade, scale=1 / 255)
    painted = cv2.merge([*cv2.split(rgb), alpha])
    while resolution > 1.3 * size and resolution > 16:
        resolution //= 2
        painted = cv2.resize(painted, (resolution, resolution), interpolation=cv2.INTER_AREA)
    return painted
