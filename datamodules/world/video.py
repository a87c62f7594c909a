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

import numpy as np

from datamodules.world.actors import Actor, Screen
from datamodules.world.appearance import ObjectClass
from datamodules.world.draw import MIN_SIZE, mask_boxes
from datamodules.world.motion import Motion
from datamodules.world.patch import Patch, overlap, paste
from datamodules.world.sprite import DEFAULT_VARIATION, Variation
from datamodules.world.stage import Stage

FIRST_VISIBLE = 0.7  # least visible share of the target in frame 0, from which a tracker starts
PLANS = 50  # plans drawn until frame 0 shows the target
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
    """Plan a video of one instance of a class; in frame 0 at least `FIRST_VISIBLE` of it can be seen.

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

    Raises:
        ValueError: no frames, a size or range out of bounds, or a motion that hides the target in frame 0.
    """
    _check(n_frames, size, scale, min_visible=min_visible)
    for _ in range(PLANS):
        actors = [
            Actor(rng, cls, size, scale=scale, motion=motion, variation=variation) for cls in (target, *distractors)
        ]
        stage = {"clutter": clutter, "motion": motion, "variation": variation}
        video = Video(rng, actors, n_frames, size=size, min_visible=min_visible, **stage)
        if video.visible_share(0) >= FIRST_VISIBLE:
            return video
    raise ValueError(f"motion hides the target in frame 0 in {PLANS} of {PLANS} plans: {motion}")


class Video:
    """A planned video; made by `draw_video`. `len(video)`, `video[t]` and iteration draw frames when asked for."""

    def __init__(
        self,
        rng: np.random.Generator,
        actors: Sequence[Actor],
        n_frames: int,
        size: int,
        clutter: Sequence[ObjectClass],
        min_visible: float,
        motion: Motion,
        variation: Variation,
    ):
        self.n_frames = n_frames
        self.size = size
        self.min_visible = min_visible
        self._target, others = actors[0], list(actors[1:])
        self._target.leaves(rng, motion)
        n_behind = int(rng.integers(len(others) + 1))
        screen = Screen(rng, self._target, motion) if motion.cover_every else None
        self._behind = others[:n_behind]
        self._front = [*others[n_behind:], *([screen] if screen else [])]
        self._stage = Stage(rng, size, clutter, motion=motion, variation=variation)

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

    def other_boxes(self, t: int) -> np.ndarray:
        """Find the boxes of the objects that move beside the target in frame t, covered parts included.

        Returns:
            (A, 4) float32, those behind the target first; NaN for an object that is outside of the picture.
        """
        moving = [actor for actor in (*self._behind, *self._front) if isinstance(actor, Actor)]
        masks = [self._seen(actor.patch(t), []) for actor in moving]
        return mask_boxes(np.stack(masks)) if masks else np.zeros((0, 4), np.float32)

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


def _check(n_frames: int, size: int, scale: tuple[float, float], min_visible: float) -> None:
    """Refuse what cannot be drawn."""
    if n_frames < 1:
        raise ValueError(f"n_frames is {n_frames}, must be at least 1")
    if size < MIN_SIZE:
        raise ValueError(f"size is {size} px, must be at least {MIN_SIZE}")
    if not 8 / size <= scale[0] <= scale[1] <= 0.8:
        raise ValueError(f"scale is {scale}, must be 8 px ({8 / size:.3f}) <= smallest <= greatest <= 0.8")
    if not 0 < min_visible <= 1:
        raise ValueError(f"min_visible is {min_visible}, must be in (0, 1]")
