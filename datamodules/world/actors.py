"""What moves in a video of the drawn world: objects, and screens that pass in front of the target."""

import numpy as np

from datamodules.world.appearance import ObjectClass
from datamodules.world.background import draw_screen
from datamodules.world.motion import OUT_FRAMES, Events, Motion, Wave, excursion
from datamodules.world.patch import Patch, smear
from datamodules.world.sprite import Pose, Variation, draw_angle, draw_look, render


class Actor:
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
        self.cls = cls
        self.size = size
        self.motion = motion
        self.tilt = variation.tilt
        self.look = draw_look(rng, cls, variation)
        self.angle = draw_angle(rng, variation)
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


class Screen:
    """Something that passes in front of the target on a straight line, every now and then."""

    def __init__(self, rng: np.random.Generator, target: Actor, motion: Motion):
        extent = int(target.diameter * rng.uniform(0.6, 1.3))
        half = rng.uniform(0.15, 0.25) if rng.random() < 0.4 else 0.0
        self.target = target
        self.shutter = motion.shutter
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


def _speck(x: int, y: int) -> Patch:
    """Stand in for an object that is far outside: one covered pixel there."""
    return Patch(np.zeros((1, 1, 3), np.uint8), np.full((1, 1), 255, np.uint8), x, y)
