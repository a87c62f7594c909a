"""Settings of MetaRTT, one group for each part of the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightning_fewshot.tracking.candidates.settings import EpisodeSettings
from lightning_fewshot.tracking.candidates.sgd import CLIP

RateKind = Literal["vector", "scalar", "fixed"]


@dataclass(frozen=True)
class SimulatedEpisode(EpisodeSettings):
    """What a simulated tracking episode samples (section 3, algorithm 1).

    Args:
        first: Positive and negative samples of D_init, and of D_test^std.
        frame: Positive and negative samples of each frame of D_on.
        estimated_targets: Collect D_on around estimated targets; else around the truth (table 1, row 3).
        hard_examples: Collect D_test^hard, targets of other videos (table 1, row 4).
    """

    frame: tuple[int, int] = (32, 96)
    estimated_targets: bool = True
    hard_examples: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.frame) < 2:
            raise ValueError(f"episode.frame is {self.frame} but must be at least 2")


@dataclass(frozen=True)
class InnerLoop:
    """Gradient steps with learned rates, eqs. (2) and (3).

    Args:
        k_init: Steps of the initial adaptation, K_init.
        rates: "vector": one learned rate for every parameter and step; "scalar": one learned rate for each adaptation;
            "fixed": that rate is not learned (table 1, "scalar lr").
        initial_rate: Where learned rates start.
        clip: Largest norm of a gradient, over all parameters; RT-MDNet's.
    """

    k_init: int = 5
    rates: RateKind = "vector"
    initial_rate: float = 0.003
    clip: float = CLIP

    def __post_init__(self) -> None:
        if self.k_init < 1:
            raise ValueError(f"k_init is {self.k_init} but must be at least 1")
        if self.initial_rate <= 0:
            raise ValueError(f"initial_rate is {self.initial_rate} but must be above 0")
        if self.clip <= 0:
            raise ValueError(f"clip is {self.clip} but must be above 0")


@dataclass(frozen=True)
class OnlineAdaptation:
    """The meta-learned online adaptation, eq. (3).

    Args:
        k_on: Steps, K_on.
        start: Where an update starts in tracking: "initial", theta_init^K as in eq. (3), or "current".
    """

    k_on: int = 5
    start: Literal["initial", "current"] = "initial"

    def __post_init__(self) -> None:
        if self.k_on < 1:
            raise ValueError(f"k_on is {self.k_on} but must be at least 1")


@dataclass(frozen=True)
class OnlineSGD:
    """RT-MDNet's online adaptation, without dropout: nothing of it is learned (table 1, baseline for Meta-Tracker).

    Args:
        k_on: Steps of an update.
        lr: Learning rate of fc4 and fc5; ten times that for fc6.
    """

    k_on: int = 15
    lr: float = 3e-4

    def __post_init__(self) -> None:
        if self.k_on < 1:
            raise ValueError(f"k_on is {self.k_on} but must be at least 1")
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr} but must be above 0")


@dataclass(frozen=True)
class TestLoss:
    """The loss on D_test, eqs. (4) to (6).

    Args:
        gamma: Weight of the triplet loss, eq. (4).
        gap: Margin xi of eq. (5).
        printed_distance: Divide by the squared length in eq. (6), as printed, instead of by the length.
    """

    __test__ = False  # not one of pytest's

    gamma: float = 0.1
    gap: float = 0.5
    printed_distance: bool = False

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ValueError(f"gamma is {self.gamma} but must be at least 0")


@dataclass(frozen=True)
class MetaGradient:
    """How the gradient of the meta-loss, eq. (8), is computed and used.

    Args:
        first_order: Leave out second derivatives.
        recompute: Compute the activations of the inner loop again instead of keeping them; gradients are equal.
        rates_lr_factor: Learning rate of the logarithms of the learned rates, as a multiple of that of the weights.
    """

    first_order: bool = False
    recompute: bool = False
    rates_lr_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.first_order and self.recompute:
            raise ValueError("recompute is True but must be False where first_order is: nothing is kept there")
        if self.rates_lr_factor < 0:
            raise ValueError(f"rates_lr_factor is {self.rates_lr_factor} but must be at least 0")


@dataclass(frozen=True)
class Perceptrons:
    """The pruning network, a two-layer perceptron for every layer of the tracker.

    Args:
        hidden: Width of the perceptrons.
        drop: Dropout between their layers.
    """

    hidden: int = 128
    drop: float = 0.5

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden} but must be at least 1")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop is {self.drop} but must be at least 0 and below 1")


@dataclass(frozen=True)
class FirstFrame:
    """Optimisation in the first frame of every video by Adam (table 3, "no meta-learning").

    Args:
        steps: Optimisation steps.
        lr: Learning rate.
    """

    steps: int = 50
    lr: float = 0.01

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps} but must be at least 1")
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr} but must be above 0")
