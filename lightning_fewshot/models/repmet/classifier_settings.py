"""Settings of RepMet's classifier."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassMixture:
    """The distribution of a class in the embedding space, and how it is learned (sections 3 and 4.1).

    Args:
        n_modes: K, representatives of a class (section 4.1: 3).
        sigma: Standard deviation of a mode (section 4.1: 0.5).
        margin: alpha of eq. (4), in units of distance.
        margin_weight: Of the loss of eq. (4); 0 leaves it out.
        representatives_lr: Learning rate of the representatives, as a multiple.

    Raises:
        ValueError: A number out of range.
    """

    n_modes: int = 3
    sigma: float = 0.5
    margin: float = 0.5
    margin_weight: float = 1.0
    representatives_lr: float = 5.0

    def __post_init__(self) -> None:
        if self.n_modes < 1:
            raise ValueError(f"n_modes is {self.n_modes} but must be at least 1")
        for name in ("sigma", "representatives_lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)} but must be above 0")
        for name in ("margin", "margin_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)} but must be at least 0")
