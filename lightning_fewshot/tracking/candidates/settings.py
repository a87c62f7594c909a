"""Settings of trackers that score candidate boxes; the defaults are RT-MDNet's (Jung et al., ECCV 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_fewshot.tracking.candidates.regression import AREAS

CHANNELS = (96, 256, 512)  # VGG-M
TARGET_SIZE = 107  # pixels
DILATION = 3  # of the third convolution, for a target of that size
LEAST_SCENE = 150  # pixels


@dataclass(frozen=True)
class CandidateNetworkSettings:
    """The network that scores candidates.

    Args:
        channels: Of the three shared convolutions; of the third alone where a backbone stands for the first two.
        hidden: Width of fc4 and fc5.
        target_pixels: Pixels of the target's side in a scene.
        scene: Side of a scene, in sides of the target.
        dilation: Of the third convolution; None: RT-MDNet's 3 for 107 pixels, as the same share of the target.

    Raises:
        ValueError: A number is out of range, or a scene is too small for the convolutions.
    """

    channels: tuple[int, ...] = CHANNELS
    hidden: int = 512
    target_pixels: int = TARGET_SIZE
    scene: float = 4.5
    dilation: int | None = None

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels is {self.channels} but every number must be at least 1")
        if self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden} but must be at least 1")
        if self.dilation is not None and self.dilation < 1:
            raise ValueError(f"dilation is {self.dilation} but must be at least 1")
        if self.scene < 2 or self.scene_size < LEAST_SCENE:
            raise ValueError(
                f"scene is {self.scene} and target_pixels {self.target_pixels}: a scene of {self.scene_size} pixels, "
                f"but scene must be at least 2 and a scene have {LEAST_SCENE} pixels or more"
            )

    @property
    def scene_size(self) -> int:
        """S, pixels of a scene's side."""
        return round(self.scene * self.target_pixels)

    @property
    def taps(self) -> int:
        """Dilation of the third convolution.

        >>> CandidateNetworkSettings().taps, CandidateNetworkSettings(target_pixels=48).taps
        (3, 1)
        """
        return self.dilation or max(1, round(DILATION * self.target_pixels / TARGET_SIZE))


@dataclass(frozen=True)
class Batches:
    """What a gradient step sees.

    Args:
        positives: Positive samples of a step.
        negatives: Negative samples of a step.
        mined: Negative samples that are scored to take the hardest from; 0: they are drawn at random.
    """

    positives: int = 32
    negatives: int = 96
    mined: int = 1024

    def __post_init__(self) -> None:
        for name, least in {"positives": 1, "negatives": 1, "mined": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"batches.{name} is {getattr(self, name)} but must be at least {least}")


@dataclass(frozen=True)
class EpisodeSettings:
    """How frames of a training episode are sampled.

    Args:
        first: Positive and negative samples of a data set around the truth: D_init, D_test^std.
    """

    first: tuple[int, int] = (64, 196)

    def __post_init__(self) -> None:
        if min(self.first) < 2:
            raise ValueError(f"episode.first is {self.first} but must be at least 2")


@dataclass(frozen=True)
class TrackerSettings:
    """RT-MDNet's options.

    Args:
        candidates: Boxes scored in every frame.
        best: The result is the mean of so many best ones.
        spread: Largest displacement of a candidate, in sides of the target.
        lost_spread: The same after a frame where the target was not found.
        scale: Largest factor of a candidate's size.
        first: Positive and negative samples of the first frame.
        first_scenes: Scenes of the first frame, all but one slightly shifted and resized.
        frame: Positive and negative samples of every frame where the target was found.
        positive_memory: Frames whose positive samples a long-term update sees.
        negative_memory: Frames whose negative samples every update, and positive ones a short-term update, sees.
        every: Frames between two long-term updates (T).
        found_share: The target counts as found above this share of the way from the median score of the first frame's
            negative samples to that of its positive ones; None: above 0, RT-MDNet's.
        box_regression: Refine boxes by ridge regression.
        regression_samples: Samples that it is learned from.
        regression_areas: Their areas, as multiples of the target's; from 1 on, boxes are only ever made smaller.
    """

    candidates: int = 256
    best: int = 5
    spread: float = 0.6
    lost_spread: float = 1.4
    scale: float = 1.05
    first: tuple[int, int] = (500, 5000)
    first_scenes: int = 7
    frame: tuple[int, int] = (50, 200)
    positive_memory: int = 100
    negative_memory: int = 20
    every: int = 10
    found_share: float | None = None
    box_regression: bool = True
    regression_samples: int = 1000
    regression_areas: tuple[float, float] = AREAS

    def __post_init__(self) -> None:
        least = {"candidates": self.best, "regression_samples": 2}
        least |= dict.fromkeys(("best", "first_scenes", "every", "positive_memory", "negative_memory"), 1)
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise ValueError(f"tracking.{name} is {getattr(self, name)} but must be at least {limit}")
        for name in ("first", "frame"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"tracking.{name} is {getattr(self, name)} but both numbers must be at least 1")
        if self.found_share is not None and not 0 < self.found_share < 1:
            raise ValueError(f"tracking.found_share is {self.found_share} but must be above 0 and below 1")
        if not 0 < self.regression_areas[0] <= 1 <= self.regression_areas[1]:
            raise ValueError(f"tracking.regression_areas is {self.regression_areas} but must be positive and hold 1")
        if min(self.spread, self.lost_spread) < 0:
            raise ValueError(
                f"tracking.spread is {self.spread}, lost_spread {self.lost_spread}, but must be at least 0"
            )
        if self.scale < 1:
            raise ValueError(f"tracking.scale is {self.scale} but must be at least 1")
