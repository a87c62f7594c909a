"""Outlines of the parts of an object, and the arrangements of further parts around its body.

An outline is a closed polygon of about unit radius around the origin, (V, 2), with V vertices; x to the right, y down.
An arrangement is a list of (outline, hole), where hole is the radius of a hole as a share of the outline's, 0 for none.
"""

from collections.abc import Callable

import numpy as np

Outline = Callable[[np.random.Generator], np.ndarray]
Arrangement = list[tuple[np.ndarray, float]]


def ellipse(rng: np.random.Generator) -> np.ndarray:
    """A disc; (64, 2)."""
    return _polar(np.ones(64))


def polygon(rng: np.random.Generator) -> np.ndarray:
    """A regular polygon of 3 to 6 corners; (V, 2)."""
    return _polar(np.ones(int(rng.integers(3, 7))), rng.uniform(0, 2 * np.pi))


def star(rng: np.random.Generator) -> np.ndarray:
    """A star of 4 to 8 points; (V, 2)."""
    n, inner = int(rng.integers(4, 9)), rng.uniform(0.38, 0.62)
    return _polar(np.tile([1.0, inner], n), rng.uniform(0, 2 * np.pi))


def blob(rng: np.random.Generator) -> np.ndarray:
    """A smooth lump of random lobes; (96, 2)."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    order = np.arange(2, 6)
    waves = np.cos(order * angle[:, None] + rng.uniform(0, 2 * np.pi, 4)) @ (rng.uniform(0.1, 0.4, 4) / order**0.6)
    return _polar(1 + waves)


def flower(rng: np.random.Generator) -> np.ndarray:
    """A disc with 3 to 7 round petals; (128, 2)."""
    angle = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    return _polar(0.72 + 0.28 * np.abs(np.cos(int(rng.integers(3, 8)) * angle / 2)) ** 0.7 * 2 - 0.28)


def bar(rng: np.random.Generator) -> np.ndarray:
    """A long rectangle; (4, 2)."""
    half = rng.uniform(0.22, 0.42)
    return np.array([(-1, -half), (1, -half), (1, half), (-1, half)])


def cross(rng: np.random.Generator) -> np.ndarray:
    """A cross of four equal arms; (12, 2)."""
    a = rng.uniform(0.22, 0.42)
    return np.array(
        [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]
    )


def crescent(rng: np.random.Generator) -> np.ndarray:
    """A moon: half a disc less half an ellipse; (64, 2)."""
    angle = np.linspace(0.5 * np.pi, 1.5 * np.pi, 32)
    outer = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    inner = outer[::-1] * (rng.uniform(0.1, 0.5), 1)
    return np.concatenate([outer, inner]) + np.array([0.5, 0])


def drop(rng: np.random.Generator) -> np.ndarray:
    """A drop: round below, pointed above; (64, 2)."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    power = rng.uniform(1.2, 2.2)
    x = np.sin(angle) * np.sin(angle / 2) ** power
    return np.stack([x, -np.cos(angle)], axis=1)


def _polar(radius: np.ndarray, start: float = 0.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False) + start
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


BODIES: dict[str, Outline] = {
    "disc": ellipse, "polygon": polygon, "star": star, "ring": ellipse, "blob": blob,
    "flower": flower, "bar": bar, "cross": cross, "crescent": crescent, "drop": drop,
}  # fmt: skip
LIMBS: tuple[Outline, ...] = (ellipse, polygon, star, blob, bar, crescent, drop, cross)
ON_TOP = ("emblem",)  # arrangements painted over the body; the others lie behind it


# Arrangements: where the further parts sit on a body (V, 2).


def emblem(rng: np.random.Generator, body: np.ndarray) -> Arrangement:
    """A smaller part on the body."""
    outline = _limb(rng, rng.uniform(0.28, 0.45))
    return [(outline + body.mean(0) + rng.uniform(-0.2, 0.2, 2), 0.0)]


def pair(rng: np.random.Generator, body: np.ndarray) -> Arrangement:
    """Two mirrored parts left and right: ears, wings, wheels."""
    outline, angle = _limb(rng, rng.uniform(0.35, 0.6)), rng.uniform(-1.2, 1.2)
    return [(_attach(outline, body, angle), 0.0), (_attach(outline * (-1, 1), body, np.pi - angle), 0.0)]


def tail(rng: np.random.Generator, body: np.ndarray) -> Arrangement:
    """One part to a side."""
    return [(_attach(_limb(rng, rng.uniform(0.4, 0.75)), body, rng.uniform(0, 2 * np.pi)), 0.0)]


def wreath(rng: np.random.Generator, body: np.ndarray) -> Arrangement:
    """Three to six equal parts around the body: legs, petals."""
    outline, angles = _limb(rng, rng.uniform(0.25, 0.42)), np.linspace(0, 2 * np.pi, int(rng.integers(4, 8)))[:-1]
    return [(_attach(_turn(outline, angle), body, angle), 0.0) for angle in angles + rng.uniform(0, np.pi)]


def crown(rng: np.random.Generator, body: np.ndarray) -> Arrangement:
    """A hollow part on top: a handle, a hat."""
    outline = ellipse(rng) * rng.uniform((0.35, 0.3), (0.7, 0.55))
    return [(_attach(outline, body, rng.uniform(-2.0, -1.1)), rng.uniform(0.4, 0.65))]


def _attach(outline: np.ndarray, body: np.ndarray, angle: float) -> np.ndarray:
    """Move a part to the body's farthest point in a direction, so that the two overlap a little."""
    towards = np.array([np.cos(angle), np.sin(angle)])
    anchor = body[np.argmax(body @ towards)]
    inner = -np.min(outline @ towards)
    return outline + anchor + 0.6 * inner * towards


def _limb(rng: np.random.Generator, size: float) -> np.ndarray:
    outline = LIMBS[int(rng.integers(len(LIMBS)))](rng) * rng.uniform(0.6, 1.2, size=(1, 2))
    return _turn(size * outline, rng.uniform(0, 2 * np.pi))


def _turn(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


ARRANGEMENTS: dict[str, Callable[[np.random.Generator, np.ndarray], Arrangement]] = {
    "emblem": emblem, "pair": pair, "tail": tail, "wreath": wreath, "crown": crown
}  # fmt: skip
