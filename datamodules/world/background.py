"""What lies behind and in front of the objects: textured grounds, loose clutter, and the light and grain of a picture.

Shapes: (H, W) a picture.
"""

from functools import lru_cache

import cv2
import numpy as np

from datamodules.world.patch import Patch
from datamodules.world.textures import N_TILES, TILE_SIZE, background_tiles


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw a ground: one texture, or two that meet at a line, and loose primitives on it.

    Args:
        rng: source of randomness.
        size: height and width in pixels.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    picture = draw_ground(rng, size)
    if rng.random() < 0.5:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3) * size
        normal = np.array([np.cos(angle), np.sin(angle)])
        along = np.array([-normal[1], normal[0]])
        middle = size / 2 + offset * normal
        corners = [middle - 2 * size * along, middle + 2 * size * along]
        corners += [corners[1] + 3 * size * normal, corners[0] + 3 * size * normal]
        side = np.zeros((size, size), np.uint8)
        cv2.fillPoly(side, [np.round(corners).astype(np.int32)], 255)
        cv2.copyTo(draw_ground(rng, size), side, picture)
    draw_primitives(rng, picture, int(rng.integers(0, 9)), size)
    return picture


def draw_ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw one texture in a random place, direction, scale and coloring; (size, size, 3) uint8."""
    angle, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.7, 0.7)) * 160 / size
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    shift = rng.uniform(0, TILE_SIZE, 2)
    return view_ground(
        colors=draw_ground_colors(rng), tile=int(rng.integers(N_TILES)), cos=cos, sin=sin, shift=shift, size=size
    )


def view_ground(colors: np.ndarray, tile: int, cos: float, sin: float, shift: np.ndarray, size: int) -> np.ndarray:
    """Cut a turned and scaled square out of an endless ground.

    Args:
        colors: (1, 256, 3) uint8 table from the tile's values to RGB.
        tile: number of the tile.
        cos: pixels of the tile per pixel of the view, times the cosine of the turn; `sin` likewise.
        sin: see `cos`.
        shift: (2,) column and row of the tile at the view's corner.
        size: side of the view in pixels.

    Returns:
        (size, size, 3) uint8.
    """
    matrix = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    value = cv2.warpAffine(background_tiles()[tile], matrix, (size, size), flags=flags, borderMode=cv2.BORDER_WRAP)
    return cv2.LUT(cv2.merge([value] * 3), colors)


def draw_ground_colors(rng: np.random.Generator) -> np.ndarray:
    """Draw a color table (1, 256, 3) uint8: a ramp through three colors that lie not too far apart."""
    middle = rng.uniform(50, 205) + rng.uniform(0.1, 0.5) * rng.uniform(-110, 110, 3)
    spread = rng.uniform(8, 70)
    stops = np.clip(middle + spread * (np.array([[-1], [0], [1]]) + 0.35 * rng.standard_normal((3, 3))), 0, 255)
    at = np.arange(256)
    return np.stack([np.interp(at, (0, 128, 255), stops[:, c]) for c in range(3)], axis=-1).astype(np.uint8)[None]


def draw_primitives(rng: np.random.Generator, picture: np.ndarray, count: int, size: int) -> None:
    """Draw loose lines, polygons and ellipses of random colors, of shares of `size` pixels, on a picture, in place."""
    for _ in range(count):
        color = rng.integers(20, 236, 3).tolist()
        x, y = rng.integers(0, picture.shape[0], 2).tolist()
        kind = rng.random()
        if kind < 0.4:
            reach = rng.normal(0, size / 4, 2)
            end = (int(x + reach[0]), int(y + reach[1]))
            cv2.line(picture, (x, y), end, color, int(rng.integers(1, 2 + size // 40)), cv2.LINE_AA)
        elif kind < 0.75:
            points = np.array([x, y]) + rng.normal(0, size / 14, (int(rng.integers(3, 7)), 2))
            cv2.fillPoly(picture, [np.round(points).astype(np.int32)], color, cv2.LINE_AA)
        else:
            axes = rng.integers(2, size // 9, 2).tolist()
            width = -1 if rng.random() < 0.6 else max(1, size // 60)
            cv2.ellipse(picture, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, color, width, cv2.LINE_AA)


def draw_occluder(rng: np.random.Generator, size: int) -> Patch:
    """Draw an unlabelled thing to stand before the objects: a textured polygon or a long bar, somewhere on a picture.

    Args:
        rng: source of randomness.
        size: side of the picture in pixels; the occluder measures a tenth to a half of it.

    Returns:
        The patch.
    """
    long = rng.random() < 0.5
    extent = int(size * (rng.uniform(0.3, 0.55) if long else rng.uniform(0.12, 0.28)))
    left, top = rng.integers(-extent // 3, size - 2 * extent // 3, 2).tolist()
    return draw_screen(rng, extent, rng.uniform(0.05, 0.11) if long else 0.0)._replace(left=left, top=top)


def draw_screen(rng: np.random.Generator, extent: int, half: float) -> Patch:
    """Draw a textured polygon of `extent` pixels, or a bar of half width `half` times `extent` if that is not 0."""
    if half:
        corners = np.array([(-0.5, -half), (0.5, -half), (0.5, half), (-0.5, half)])
    else:
        angle = np.linspace(0, 2 * np.pi, 8)[:-1] + rng.uniform(-0.4, 0.4, 7)
        corners = 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.6, 1, (7, 1))
    turn = rng.uniform(0, 2 * np.pi)
    corners = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    alpha = np.zeros((extent, extent), np.uint8)
    cv2.fillPoly(alpha, [np.round((corners + 0.5) * extent * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return Patch(draw_ground(rng, extent), alpha, 0, 0)


def finish(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Take the picture: a cast of light, brightness falling to one side, slight blur, grain.

    Args:
        rng: source of randomness.
        picture: (H, W, 3) uint8, left as it is.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = picture.shape[:2]
    gain = np.exp(0.16 * rng.standard_normal() + 0.06 * rng.standard_normal(3))
    slope = rng.uniform(-0.25, 0.25, 2)
    light = np.add.outer(np.linspace(-slope[0], slope[0], height), np.linspace(-slope[1], slope[1], width))
    light = 128 * np.clip(1 + light.astype(np.float32), 0, 1.99)
    lit = cv2.multiply(picture, cv2.merge([light.astype(np.uint8)] * 3), scale=1 / 128)
    ramp = np.clip(np.arange(256)[:, None] * gain, 0, 255).astype(np.uint8)[None]
    lit = cv2.LUT(lit, ramp)
    if rng.random() < 0.3:
        lit = cv2.GaussianBlur(lit, (3, 3), 0)
    return add_grain(rng, lit, rng.uniform(0, 0.25))


def add_grain(rng: np.random.Generator, picture: np.ndarray, strength: float) -> np.ndarray:
    """Add noise of standard deviation 32 * strength grey levels; returns a new picture."""
    height, width = picture.shape[:2]
    bank = _grain(max(512, 2 * height, 2 * width))
    y, x = int(rng.integers(bank.shape[0] - height + 1)), int(rng.integers(bank.shape[1] - width + 1))
    return cv2.addWeighted(picture, 1.0, bank[y : y + height, x : x + width], strength, -128 * strength)


@lru_cache(maxsize=4)
def _grain(side: int) -> np.ndarray:
    noise = np.random.default_rng(4).standard_normal((side, side, 3), dtype=np.float32)
    bank = np.clip(128 + 32 * noise, 0, 255).astype(np.uint8)
    bank.setflags(write=False)
    return bank
