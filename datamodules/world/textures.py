"""Textures of the drawn world: surface patterns of object classes, and tiles for backgrounds.

A surface pattern is a function of the object's own coordinates, so it turns, grows and bends with the object.
A tile is periodic and may be panned for ever. Both hold a mixing value per pixel, not a color: the colors
are chosen per instance (`sprite.draw_look`) and per scene (`draw.draw_background`).

Shapes: R rows and columns of a pattern or tile.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

TILE_SIZE = 256  # px, a power of two for the fast Fourier transform
N_TILES = 24


def square_wave(phase: np.ndarray, duty: float = 0.5, sharpness: float = 9.0) -> np.ndarray:
    """Make a soft-edged square wave of period 1.

    Args:
        phase: positions in periods, any shape.
        duty: share of a period with the value 1, in (0, 1).
        sharpness: slope of the edges; the softness stands in for anti-aliasing.

    Returns:
        Values in [0, 1], the shape of `phase`.

    >>> square_wave(np.array([0.0, 0.5, 1.0, 1.5])).round(2).tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    wave = np.cos(2 * np.pi * phase) - np.cos(np.pi * duty)
    return 0.5 + 0.5 * np.tanh(sharpness * wave / 2)


def plain(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """One color."""
    return np.zeros_like(x)


def striped(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Parallel stripes."""
    return square_wave(f * x / 2 + rng.random(), rng.uniform(0.35, 0.65))


def checked(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """A chess board."""
    waves = np.cos(np.pi * f * x + 6 * rng.random()) * np.cos(np.pi * f * y + 6 * rng.random())
    return 0.5 + 0.5 * np.tanh(8 * waves)


def dotted(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Round dots on a grid with every second row shifted."""
    row = np.floor(f * y / 2)
    dx = (f * x / 2 + 0.5 * row) % 1 - 0.5
    dy = (f * y / 2) % 1 - 0.5
    return 0.5 + 0.5 * np.tanh(14 * (rng.uniform(0.24, 0.34) - np.hypot(dx, dy)))


def ringed(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Concentric rings around a point near the centre."""
    radius = np.hypot(x - rng.uniform(-0.2, 0.2), y - rng.uniform(-0.2, 0.2))
    return square_wave(f * radius / 1.6 + rng.random(), rng.uniform(0.4, 0.6))


def wavy(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Stripes that meander."""
    bend = rng.uniform(0.25, 0.4) * np.sin(np.pi * f * y / 1.5)
    return square_wave(f * x / 2.2 + bend, 0.5)


def zigzag(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Stripes with sharp bends."""
    bend = np.abs((f * y / 2.2) % 1 - 0.5) * rng.uniform(1.2, 1.8)
    return square_wave(f * x / 2.4 + bend, 0.45)


def latticed(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Thin lines in two directions."""
    duty = rng.uniform(0.22, 0.32)
    return np.maximum(square_wave(f * x / 2.4, duty), square_wave(f * y / 2.4, duty))


def bricked(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Bricks twice as wide as high, with thin joints."""
    shift = 0.5 * np.floor(f * y / 2)
    return np.maximum(square_wave(f * x / 4 + shift, 0.14), square_wave(f * y / 2, 0.24))


def rayed(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Sectors around a point near the centre."""
    angle = np.arctan2(y - rng.uniform(-0.15, 0.15), x - rng.uniform(-0.15, 0.15))
    return square_wave(angle / (2 * np.pi) * np.round(f + 1) + rng.random(), 0.5)


def shaded(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """A gradient from one side to the other."""
    return 0.5 + 0.5 * np.tanh(1.8 * x)


def marbled(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Large irregular patches, as on a cow."""
    return 0.5 + 0.5 * np.tanh(5 * _waves(x, y, 0.7 * f, 6, rng))


def speckled(x: np.ndarray, y: np.ndarray, f: float, rng: np.random.Generator) -> np.ndarray:
    """Small irregular specks."""
    return 0.5 + 0.5 * np.tanh(7 * (_waves(x, y, 2.2 * f, 10, rng) - 0.35))


PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]] = {
    f.__name__: f
    for f in (
        plain, striped, checked, dotted, ringed, wavy, zigzag, latticed, bricked, rayed, shaded, marbled, speckled
    )
}  # fmt: skip


def surface(kind: str, frequency: float, angle: float, seed: int, resolution: int) -> np.ndarray:
    """Draw a surface pattern over the square [-1, 1] x [-1, 1].

    Args:
        kind: a key of `PATTERNS`.
        frequency: about the number of periods across the square.
        angle: direction of the pattern, in radians.
        seed: of what is random in the pattern.
        resolution: rows and columns R.

    Returns:
        Mixing values in [0, 1], (R, R) float32.

    >>> surface("striped", 4, 0.0, seed=1, resolution=64).shape
    (64, 64)
    """
    axis = (np.arange(resolution) + 0.5) * (2 / resolution) - 1
    x, y = np.meshgrid(axis, axis)
    cos, sin = np.cos(angle), np.sin(angle)
    rng = np.random.default_rng([7, seed])
    return PATTERNS[kind](cos * x + sin * y, cos * y - sin * x, frequency, rng).astype(np.float32)


@lru_cache(maxsize=1)
def background_tiles() -> np.ndarray:
    """Draw the bank of background tiles, the same in every process.

    Returns:
        (N_TILES, TILE_SIZE, TILE_SIZE) uint8; each tile is periodic in both directions.
    """
    rng = np.random.default_rng(20170403)
    tiles = np.stack([_tile(rng, i % 4) for i in range(N_TILES)])
    tiles.setflags(write=False)
    return tiles


def _tile(rng: np.random.Generator, kind: int) -> np.ndarray:
    smooth, rough = _periodic_noise(rng, rng.uniform(1.6, 2.4)), _periodic_noise(rng, rng.uniform(0.7, 1.2))
    if kind == 0:  # clouds, plaster
        value = smooth + 0.3 * rough
    elif kind == 1:  # contour lines, wood
        value = np.sin(rng.uniform(2.5, 5) * smooth) + 0.25 * rough
    elif kind == 2:  # patches
        value = np.tanh(4 * smooth) + np.tanh(4 * rough) * 0.4
    else:  # a regular pattern, worn
        axis = np.arange(TILE_SIZE) / TILE_SIZE
        k, m = rng.integers(4, 17, size=2)
        along = np.sin(2 * np.pi * (k * axis[None, :] + int(rng.integers(-4, 5)) * axis[:, None]) + 0.6 * smooth)
        across = np.sin(2 * np.pi * m * axis[:, None]) if rng.random() < 0.5 else 0.0
        value = np.tanh(2 * (along + across)) + 0.5 * rough + 0.5 * smooth
    low, high = np.percentile(value, [1, 99])
    return (255 * np.clip((value - low) / (high - low), 0, 1)).astype(np.uint8)


def _periodic_noise(rng: np.random.Generator, slope: float) -> np.ndarray:
    """Noise of amplitude spectrum 1 / frequency^slope, unit variance; periodic because it is filtered by Fourier."""
    fy, fx = np.fft.fftfreq(TILE_SIZE)[:, None], np.fft.rfftfreq(TILE_SIZE)[None, :]
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((TILE_SIZE, TILE_SIZE))) / np.maximum(radius, 3 / TILE_SIZE) ** slope
    noise = np.fft.irfft2(spectrum, s=(TILE_SIZE, TILE_SIZE))
    return noise / noise.std()


def _waves(x: np.ndarray, y: np.ndarray, f: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Sum n plane waves of random directions: smooth noise of one scale, unit variance."""
    angle, phase = rng.uniform(0, 2 * np.pi, (2, n))
    f = f * rng.uniform(0.7, 1.3, n)
    arguments = np.pi * f * (np.cos(angle) * x[..., None] + np.sin(angle) * y[..., None]) + phase
    return np.cos(arguments).sum(-1) * np.sqrt(2 / n)
