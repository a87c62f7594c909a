"""Videos of the drawn world: one labelled target that moves, turns, grows, is covered and leaves, among distractors.

A video holds only its plan. A frame is drawn when it is asked for, by its number alone: a million cost no memory.

What is labelled is what can be seen, as in a scene: the mask holds the target's visible pixels, the box is tight around
them. Where less than `min_visible` of the target can be seen, because it is covered or out of the picture, the frame is
flagged: `visible` is False, the box is NaN, the mask is empty.

Shapes: T frames, (H, W) the picture.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from datamodules.world.appearance import ObjectClass
from datamodules.world.background import add_grain, draw_ground_colours, draw_primitives, draw_screen
from datamodules.world.draw import MIN_SIZE, mask_boxes
from datamodules.world.motion import OUT_FRAMES, Events, Motion, Wave, excursion
from datamodules.world.sprite import (
    DEFAULT_VARIATION,
    Patch,
    Pose,
    Variation,
    draw_angle,
    draw_look,
    motion_kernel,
    overlap,
    paste,
    render,
    smear,
)
from datamodules.world.textures import N_TILES, TILE_SIZE, background_tiles

FIRST_VISIBLE = 0.7  # least visible share of the target in frame 0, from which a tracker starts
PLANS = 50  # plans drawn until frame 0 shows the target
HAND = (5.0, 12.0)  # period of the trembling of the camera, in frames
DEFAULT_MOTION = Motion()


class Frame(NamedTuple):
    """One frame and its truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        box: (4,) float32 (x1, y1, x2, y2), edges of pixels; NaN where the target is not visible.
        visible: whether enough of the target can be seen.
        mask: (H, W) bool, the target's visible pixels; empty where the target is not visible.
    """

    image: np.ndarray
    box: np.ndarray
    visible: bool
    mask: np.ndarray


class Clip(NamedTuple):
    """All frames of a short video: (T, H, W, 3) uint8, (T, 4) float32, (T,) bool, (T, H, W) bool."""

    images: np.ndarray
    boxes: np.ndarray
    visible: np.ndarray
    masks: np.ndarray


def draw_video(
    rng: np.random.Generator,
    target: ObjectClass,
    n_frames: int,
    *,
    size: int = 160,
    scale: tuple[float, float] = (0.2, 0.45),
    distractors: Sequence[ObjectClass] = (),
    clutter: Sequence[ObjectClass] = (),
    min_visible: float = 0.2,
    motion: Motion = DEFAULT_MOTION,
    variation: Variation = DEFAULT_VARIATION,
) -> "Video":
    """Plan a video of one instance of a class.

    Args:
        rng: source of all randomness, used while planning only; the same state gives the same frames.
        target: class of the object to follow.
        n_frames: number of frames T, at least 1.
        size: height and width in pixels, at least `MIN_SIZE`.
        scale: smallest and greatest mean diameter of the moving objects, as a share of `size`.
        distractors: class of each further moving object; the target's own class may be among them, as another instance.
        clutter: class of each object that lies still on the background.
        min_visible: least visible share of the target for a frame to count as visible, in (0, 1].
        motion: what moves and changes, and how much.
        variation: how far instances differ.

    Returns:
        The video. In frame 0 at least `FIRST_VISIBLE` of the target can be seen.

    Raises:
        ValueError: no frames, a size or range out of bounds, or a motion that hides the target in frame 0.
    """
    if n_frames < 1:
        raise ValueError(f"n_frames is {n_frames}, must be at least 1")
    if size < MIN_SIZE:
        raise ValueError(f"size is {size} px, must be at least {MIN_SIZE}")
    if not 8 / size <= scale[0] <= scale[1] <= 0.8:
        raise ValueError(f"scale is {scale}, must be 8 px ({8 / size:.3f}) <= smallest <= greatest <= 0.8")
    if not 0 < min_visible <= 1:
        raise ValueError(f"min_visible is {min_visible}, must be in (0, 1]")
    for _ in range(PLANS):
        actors = [_Actor(rng, cls, size, scale, motion, variation) for cls in (target, *distractors)]
        video = Video(rng, actors, n_frames, size, clutter, min_visible, motion, variation)
        if video.visible_share(0) >= FIRST_VISIBLE:
            return video
    raise ValueError(f"motion hides the target in frame 0 in {PLANS} of {PLANS} plans: {motion}")


class Video:
    """A planned video; made by `draw_video`. `len(video)`, `video[t]` and iteration draw frames when asked for."""

    def __init__(
        self,
        rng: np.random.Generator,
        actors: Sequence["_Actor"],
        n_frames: int,
        size: int,
        clutter: Sequence[ObjectClass],
        min_visible: float,
        motion: Motion,
        variation: Variation,
    ):
        self.n_frames, self.size, self.min_visible = n_frames, size, min_visible
        self._target, others = actors[0], list(actors[1:])
        self._target.leaves(rng, motion)
        n_behind = int(rng.integers(len(others) + 1))
        screen = _Screen(rng, self._target, motion) if motion.cover_every else None
        self._behind, self._front = others[:n_behind], [*others[n_behind:], *([screen] if screen else [])]
        self._stage = _Stage(rng, size, clutter, motion, variation)

    def __len__(self) -> int:
        return self.n_frames

    def __getitem__(self, t: int) -> Frame:
        return self.frame(t)

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(t) for t in range(self.n_frames))

    def frame(self, t: int) -> Frame:
        """Draw frame t with its truth; IndexError unless 0 <= t < T."""
        picture = self._stage.ground(t)
        for actor in self._behind:
            paste(picture, actor.patch(t))
        target, front = self._cast(t)
        for patch in (target, *front):
            paste(picture, patch)
        box, visible, mask = self._truth(target, front)
        return Frame(self._stage.light(picture, t), box, visible, mask)

    def truth(self, t: int) -> tuple[np.ndarray, bool, np.ndarray]:
        """Find box, visible and mask of frame t without drawing the picture; IndexError unless 0 <= t < T."""
        return self._truth(*self._cast(t))

    @property
    def boxes(self) -> np.ndarray:
        """Boxes of all frames, (T, 4) float32, NaN where the target is not visible; under a millisecond a frame."""
        return self._boxes.copy()

    @property
    def visible(self) -> np.ndarray:
        """Whether the target is visible in each frame, (T,) bool."""
        return ~np.isnan(self._boxes[:, 0])

    @cached_property
    def _boxes(self) -> np.ndarray:
        return np.stack([self.truth(t)[0] for t in range(self.n_frames)])

    def clip(self, start: int = 0, stop: int | None = None) -> Clip:
        """Draw the frames from `start` up to, not including, `stop` (by default the end) into arrays."""
        frames = [self.frame(t) for t in range(start, self.n_frames if stop is None else stop)]
        if not frames:
            raise ValueError(f"clip from {start} to {stop} of {self.n_frames} frames is empty")
        return Clip(*(np.stack(column) for column in zip(*frames, strict=True)))

    def visible_share(self, t: int) -> float:
        """Find the share of the target that is neither covered nor outside in frame t, in [0, 1]."""
        target, front = self._cast(t)
        return np.count_nonzero(self._seen(target, front)) / max(np.count_nonzero(target.mask), 1)

    def _cast(self, t: int) -> tuple[Patch, list[Patch]]:
        """Render the target and what is in front of it."""
        if not 0 <= t < self.n_frames:
            raise IndexError(f"frame {t} of a video of {self.n_frames} frames")
        return self._target.patch(t), [actor.patch(t) for actor in self._front]

    def _truth(self, target: Patch, front: Sequence[Patch]) -> tuple[np.ndarray, bool, np.ndarray]:
        mask = self._seen(target, front)
        seen = np.count_nonzero(mask)
        visible = bool(seen and seen >= self.min_visible * np.count_nonzero(target.mask))
        if not visible:
            mask[...] = False
        return mask_boxes(mask[None])[0], visible, mask

    def _seen(self, target: Patch, front: Sequence[Patch]) -> np.ndarray:
        """Mark the target's visible pixels, (H, W) bool."""
        mask = np.zeros((self.size, self.size), bool)
        rows, columns, inner = overlap(target, mask.shape)
        mask[rows, columns] = target.mask[inner]
        for patch in front:
            rows, columns, inner = overlap(patch, mask.shape)
            mask[rows, columns] &= ~patch.mask[inner]
        return mask


class _Actor:
    """A moving object: its look, and its pose as a function of time."""

    def __init__(
        self,
        rng: np.random.Generator,
        cls: ObjectClass,
        size: int,
        scale: tuple[float, float],
        motion: Motion,
        variation: Variation,
    ):
        self.cls, self.size, self.motion, self.tilt = cls, size, motion, variation.tilt
        self.look, self.angle = draw_look(rng, cls, variation), draw_angle(rng, variation)
        self.other_bend = draw_look(rng, cls, variation).bend
        self.diameter = size * np.exp(rng.uniform(*np.log(scale)))
        self.place = Wave(rng, motion.period, 2)
        self.manner = Wave(rng, motion.period, 5)  # size, turn, two tilts, bending
        self.exit = Events(0, 0.0)
        self.heading = rng.uniform(0, 2 * np.pi)

    def leaves(self, rng: np.random.Generator, motion: Motion) -> None:
        """Let this actor leave the picture now and then."""
        self.exit = Events.draw(rng, motion.leave_every, OUT_FRAMES / 2)

    def centre(self, t: float) -> np.ndarray:
        """Find the centre at time t, (2,) pixels."""
        inside = self.size * (0.5 + self.motion.travel * self.place(t))
        out = excursion(t, self.exit.nearest(t))
        towards = np.array([np.cos(self.heading), np.sin(self.heading)])
        return inside + out * 1.3 * (self.size + self.diameter) * towards

    def patch(self, t: int) -> Patch:
        """Render frame t, blurred along the way."""
        grow, turn, *tilt, bend = self.manner(t)
        size = np.clip(self.diameter * np.exp(self.motion.grow * grow), 8, self.size)
        angle = self.angle + np.deg2rad(self.motion.spin) * turn
        mix = np.pi / 2 * (1 + bend)
        look = self.look._replace(
            tilt=self.tilt * np.array(tilt),
            bend=np.float32(np.cos(mix)) * self.look.bend + np.float32(np.sin(mix)) * self.other_bend,
        )
        x, y = self.centre(t)
        if max(abs(x - self.size / 2), abs(y - self.size / 2)) > self.size / 2 + 1.2 * size:
            return _speck(int(x), int(y))
        way = self.motion.shutter * (self.centre(t + 0.5) - self.centre(t - 0.5))
        return smear(render(self.cls, look, Pose(x, y, size, angle)), way)


class _Screen:
    """Something that passes in front of the target on a straight line, every now and then."""

    def __init__(self, rng: np.random.Generator, target: _Actor, motion: Motion):
        extent = int(target.diameter * rng.uniform(0.6, 1.3))
        half = rng.uniform(0.15, 0.25) if rng.random() < 0.4 else 0.0
        self.target, self.shutter = target, motion.shutter
        self.patch0 = draw_screen(rng, int(extent * (1.5 if half else 1)), half)
        self.events = Events.draw(rng, motion.cover_every, 0.0)
        # Fast enough to be out of the picture half way between two moments, where it jumps to its next start.
        speed = target.size * max(3 / motion.cover_every, 0.02) * rng.uniform(1, 1.4)
        angle = rng.uniform(0, 2 * np.pi)
        self.velocity = speed * np.array([np.cos(angle), np.sin(angle)])

    def patch(self, t: int) -> Patch:
        """Render frame t."""
        moment = self.events.nearest(t)
        x, y = self.target.centre(moment) + (t - moment) * self.velocity
        extent = self.patch0.alpha.shape[0]
        patch = self.patch0._replace(left=int(np.floor(x - extent / 2)), top=int(np.floor(y - extent / 2)))
        return smear(patch, self.shutter * self.velocity)


class _Stage:
    """The background, the camera and the light."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: int,
        clutter: Sequence[ObjectClass],
        motion: Motion,
        variation: Variation,
    ):
        self.size, self.motion = size, motion
        self.world = self._draw_world(rng, clutter, variation)
        self.start = rng.uniform(0, self.world.shape[0], 2)
        self.camera, self.hand = Wave(rng, motion.period, 2), Wave(rng, HAND, 2)
        self.gain, self.cast = Wave(rng, motion.period, 1), Wave(rng, motion.period, 3)
        self.slope = rng.uniform(-0.25, 0.25, 2)
        self.grain, self.seed = rng.uniform(0, 0.25), int(rng.integers(2**63))

    def _draw_world(self, rng: np.random.Generator, clutter: Sequence[ObjectClass], variation: Variation) -> np.ndarray:
        """Paint an endless ground (its border meets itself) of at least twice the picture's size."""
        times = -(-2 * self.size // TILE_SIZE)
        side = times * TILE_SIZE
        value = np.tile(background_tiles()[int(rng.integers(N_TILES))], (times, times))
        world = cv2.LUT(cv2.merge([value] * 3), draw_ground_colours(rng))
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


def _speck(x: int, y: int) -> Patch:
    """Stand in for an object that is far outside: one covered pixel there."""
    return Patch(np.zeros((1, 1, 3), np.uint8), np.full((1, 1), 255, np.uint8), x, y)
