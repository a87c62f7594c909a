"""Settings of RT-MDNet that no other tracker has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SGDAdaptation:
    """Gradient steps with momentum, by hand-set numbers.

    Args:
        k_init: Steps in the first frame; MetaRTT's table 2 has 50 and 5.
        k_on: Steps of an online update; table 2 has 15 and 5.
        init_lr: Learning rate of the first frame; that of the last layer is ten times as large.
        online_lr: Learning rate of online updates.
    """

    k_init: int = 50
    k_on: int = 15
    init_lr: float = 1e-4
    online_lr: float = 3e-4

    def __post_init__(self) -> None:
        for name in ("k_init", "k_on"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)} but must be at least 1")
        for name in ("init_lr", "online_lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)} but must be above 0")


@dataclass(frozen=True)
class Domains:
    """Pretraining on many videos, each with a last layer of its own (sections 3.2 and 3.3).

    Args:
        count: Last layers; video i has layer ``i mod count``.
        instance_weight: Weight of the instance embedding loss; 0 leaves it out.
    """

    count: int = 1000
    instance_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"domains.count is {self.count} but must be at least 1")
        if self.instance_weight < 0:
            raise ValueError(f"instance_weight is {self.instance_weight} but must be at least 0")
