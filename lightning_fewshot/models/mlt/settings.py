"""Groups of settings of MLT; the defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Choice = Literal["entropy", "score", "random"]  # of remembered patches


@dataclass(frozen=True)
class MatchingSettings:
    """Sizes of the matching network (section 3.2.1).

    Args:
        channels: Of the first four layers; less than the paper's for a CPU.
        kernels: K of the fifth; 128 is the baseline "MLT w/o meta" (section 4.2.1).

    Raises:
        ValueError: There are not four numbers of channels, or a number is below 1.
    """

    channels: tuple[int, int, int, int] = (96, 192, 256, 128)
    kernels: int = 96

    def __post_init__(self) -> None:
        if len(self.channels) != 4 or min(self.channels) < 1:
            raise ValueError(f"channels is {tuple(self.channels)} but must be 4 numbers, at least 1 each")
        if self.kernels < 1:
            raise ValueError(f"kernels is {self.kernels} but must be at least 1")


@dataclass(frozen=True)
class MetaLearnerSettings:
    """The meta-learner (section 3.2.2).

    Args:
        hidden: Units of both intermediate layers.
        keep: Keep probability of the dropout after each of them, in (0, 1].
        target_kernels: Kernels that it makes for a target.

    Raises:
        ValueError: A number is out of range.
    """

    hidden: int = 512
    keep: float = 0.7
    target_kernels: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is {self.keep} but must be in (0, 1]")
        for name in ("hidden", "target_kernels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)} but must be at least 1")


@dataclass(frozen=True)
class Memory:
    """What the tracker remembers, and how often it updates (Algorithm 1).

    Args:
        size: M, patches that the gradient is taken on.
        update_every: T, frames from one update of the tracker to the next; 0: no updates.
        least_score: Logit that a response must exceed somewhere for its patch to be remembered; None: every patch
            may be, as in the paper.
        choice: Which M of the T patches are kept: those of least "entropy", eq. (5), of the highest response ("score"),
            which counts no background, or "random" ones, a control.

    Raises:
        ValueError: A number is out of range.
    """

    size: int = 4
    update_every: int = 90
    least_score: float | None = None
    choice: Choice = "entropy"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size} but must be at least 1")
        if self.update_every < 0:
            raise ValueError(f"update_every is {self.update_every} but must be at least 0")
        if self.choice not in get_args(Choice):
            raise ValueError(f"choice is {self.choice!r} but must be one of {', '.join(get_args(Choice))}")
