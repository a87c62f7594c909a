"""How things move in a video of the drawn world: closed forms in time, so that any frame can be drawn by itself.

Time is in frames and may be fractional; nothing is integrated, so frame 900 000 costs as much as frame 0.
"""

from dataclasses import dataclass

import numpy as np

OUT_FRAMES = 36  # frames from the first move of an excursion to the return
FIRST_EVENT = 30  # frames; nothing leaves and nothing passes in front before this


@dataclass(frozen=True)
class Motion:
    """What moves and changes, and how much. Zero in a field turns it off.

    Attributes:
        travel: greatest distance of an object from the middle of the picture, along an axis, as a share of its size.
        period: shortest and longest period of the movement, in frames.
        grow: greatest change of the logarithm of the diameter.
        spin: greatest turn away from the first pose, in degrees.
        pan: greatest displacement of the background, as a share of the picture's size.
        shutter: share of the time between two frames during which light falls in; gives the motion blur.
        flicker: greatest change of the logarithm of the brightness.
        leave_every: frames between two moments at which the target leaves the picture and comes back; 0 for never.
        cover_every: frames between two moments at which something passes in front of the target; 0 for never.
    """

    travel: float = 0.3
    period: tuple[float, float] = (40.0, 160.0)
    grow: float = 0.35
    spin: float = 50.0
    pan: float = 0.6
    shutter: float = 0.6
    flicker: float = 0.3
    leave_every: int = 240
    cover_every: int = 100

    def __post_init__(self):
        for name in ("travel", "grow", "spin", "pan", "shutter", "flicker", "leave_every", "cover_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0")
        if self.travel > 0.5:
            raise ValueError(f"travel is {self.travel}, must be at most 0.5")
        if not 2 <= self.period[0] <= self.period[1]:
            raise ValueError(f"period is {self.period}, must be 2 <= shortest <= longest frames")
        if 0 < self.leave_every < FIRST_EVENT + OUT_FRAMES:
            raise ValueError(f"leave_every is {self.leave_every}, must be 0 or at least {FIRST_EVENT + OUT_FRAMES}")
        if 0 < self.cover_every < FIRST_EVENT:
            raise ValueError(f"cover_every is {self.cover_every}, must be 0 or at least {FIRST_EVENT}")


class Wave:
    """A smooth random function of time with values in [-1, 1]: a weighted sum of sinusoids.

    Args:
        rng: source of randomness, used here only.
        period: shortest and longest period, in frames.
        n: number of values at each time.

    >>> wave = Wave(np.random.default_rng(0), (40, 80), n=2)
    >>> wave(3.5).shape, bool(np.abs(wave(1e6)).max() <= 1)
    ((2,), True)
    """

    TERMS = 3

    def __init__(self, rng: np.random.Generator, period: tuple[float, float], n: int = 1):
        self.omega = 2 * np.pi / rng.uniform(*period, (n, self.TERMS))
        self.phase = rng.uniform(0, 2 * np.pi, (n, self.TERMS))
        weight = self.omega**-1 * rng.uniform(0.5, 1, (n, self.TERMS))
        self.weight = weight / weight.sum(1, keepdims=True)

    def __call__(self, t: float) -> np.ndarray:
        """Evaluate at time t; (n,)."""
        return (self.weight * np.sin(self.omega * t + self.phase)).sum(1)


@dataclass(frozen=True)
class Events:
    """Moments that come again every `period` frames, the first at `first`; `period` = 0 for none."""

    period: int
    first: float

    @classmethod
    def draw(cls, rng: np.random.Generator, period: int, lead: float) -> "Events":
        """Draw the first moment, at least `lead` frames after `FIRST_EVENT` and not much over one period on."""
        return cls(period, float(FIRST_EVENT + lead + rng.uniform(0, max(period - FIRST_EVENT - lead, 1))))

    def nearest(self, t: float) -> float:
        """Find the moment nearest to t; infinity if there is none."""
        if not self.period:
            return np.inf
        return self.first + max(np.round((t - self.first) / self.period), 0.0) * self.period


def excursion(t: float, moment: float) -> float:
    """Tell how far out something is that leaves around a moment: 0 at home, 1 wholly out.

    >>> excursion(0, 100), excursion(100, 100), excursion(100 + OUT_FRAMES / 2, 100)
    (0.0, 1.0, 0.0)
    """
    distance = abs(t - moment) / (OUT_FRAMES / 2)
    if distance >= 1:
        return 0.0
    return float(min(1.0, 1.3 * np.cos(np.pi / 2 * distance) ** 2))  # out for a third of the time
