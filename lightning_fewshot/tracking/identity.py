"""The identity tracker as a module: what every tracker must beat clearly, and the smallest example of one."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.tracking.module import TrackingModule
from lightning_fewshot.tracking.tracker import IdentityTracker


class IdentityTracking(TrackingModule):
    """Answer with the first box, always. There is nothing to train: use ``test`` and ``predict``."""

    needs_training: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    def tracker(self) -> IdentityTracker:
        """Return the tracker."""
        return IdentityTracker()

    def adapt(self, support: Examples) -> list[Tensor]:
        """Return the boxes of the support."""
        return support.boxes

    def predict(self, state: list[Tensor], query: Examples) -> list[Tensor]:
        """Return them for the query."""
        return state

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Say that there is none.

        Raises:
            ValueError: Always.
        """
        raise ValueError("the identity tracker has no parameters: use `test` or `predict` instead of `fit`")
