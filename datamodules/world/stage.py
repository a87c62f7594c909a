"""The stage of a video of the drawn world: the ground, the camera that pans over it, and the light."""

from collections.abc import Sequence

import cv2
import numpy as np

from datamodules.world.appearance import ObjectClass
from datamodules.world.background import add_grain, draw_ground_colors, draw_primitives
from datamodules.world.motion import Motion, Wave
from datamodules.world.patch import motion_kernel, paste
from datamodules.world.sprite import Pose, Variation, draw_angle, draw_look, render
from datamodules.world.textures import N_TILES, TILE_SIZE, background_tiles

HAND = (5.0, 12.0)  # period of the trembling of the camera, in frames


class Stage:
    """The background, the camera and the light."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: int,
        clutter: Sequence[ObjectClass],
        motion: Motion,
        variation: Variation,
    ):
        self.size = size
        self.motion = motion
        self.world = self._draw_world(rng, clutter, variation)
        self.start = rng.uniform(0, self.world.shape[0], 2)
        self.camera = Wave(rng, motion.period, 2)
        self.hand = Wave(rng, HAND, 2)
        self.gain = Wave(rng, motion.period, 1)
        self.cast = Wave(rng, motion.period, 3)
        self.slope = rng.uniform(-0.25, 0.25, 2)
        self.grain = rng.uniform(0, 0.25)
        self.seed = int(rng.integers(2**63))

    def _draw_world(self, rng: np.random.Generator, clutter: Sequence[ObjectClass], variation: Variation) -> np.ndarray:
        """Paint an endless ground (its border meets itself) of at least twice the picture's size."""
        times = -(-2 * self.size // TILE_SIZE)
        side = times * TILE_SIZE
        value = np.tile(background_tiles()[int(rng.integers(N_TILES))], (times, times))
        world = cv2.LUT(cv2.merge([value] * 3), draw_ground_colors(rng))
        draw_primitives(rng, world, int(rng.integers(0, 40)), self.size)
        for cls in clutter:
            diameter = self.size * rng.uniform(0.2, 0.4)
            x, y = rng.uniform(diameter, side - diameter, 2)
            paste(world, render(cls, draw_look(rng, cls, variation), Pose(x, y, diameter, draw_angle(rng, variation))))
        return world

    def corner(self, t: float) -> np.ndarray:
        """Find the place in the world of the picture's corner at time t, (2,) pixels."""
        pan = self.motion.pan * self.size
        return self.start + pan * self.camera(t) + min(pan, 1.0) * self.hand(t)

    def ground(self, t: int) -> np.ndarray:
        """Draw the background of frame t, (H, W, 3) uint8."""
        x, y = self.corner(t)
        matrix = np.array([[1, 0, x], [0, 1, y]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        picture = cv2.warpAffine(self.world, matrix, (self.size, self.size), flags=flags, borderMode=cv2.BORDER_WRAP)
        kernel = motion_kernel(self.motion.shutter * (self.corner(t + 0.5) - self.corner(t - 0.5)))
        return picture if kernel is None else cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REFLECT)

    def light(self, picture: np.ndarray, t: int) -> np.ndarray:
        """Light frame t, and add its grain; returns a new picture."""
        gain = np.exp(self.motion.flicker * (self.gain(t) + 0.25 * self.cast(t)))
        axis = np.linspace(-1, 1, self.size, dtype=np.float32)
        light = 128 * np.clip(1 + np.add.outer(self.slope[1] * axis, self.slope[0] * axis), 0, 1.99)
        lit = cv2.multiply(picture, cv2.merge([light.astype(np.uint8)] * 3), scale=1 / 128)
        table = np.clip(np.arange(256)[:, None] * gain, 0, 255).astype(np.uint8)[None]
        return add_grain(np.random.default_rng([self.seed, t]), cv2.LUT(lit, table), self.grain)
