"""What a tracker is, and the smallest one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Tracker(Protocol):
    """Follow one object. State is returned, never stored on the tracker: one tracker may follow many objects.

    Boxes are ``(4,)`` float32 on the CPU, ``(x1, y1, x2, y2)`` in pixels of the frame; frames are ``(3, H, W)`` uint8
    RGB on the CPU, which a tracker moves to its own device. The loop calls both methods without gradients; a tracker
    that takes gradient steps opens ``torch.enable_grad()`` itself. Randomness comes from torch's global generator,
    which the test loop seeds for every sequence.
    """

    def init(self, frame: Tensor, box: Tensor) -> Any:
        """Look at the object once.

        Args:
            frame: ``(3, H, W)``, the first frame.
            box: ``(4,)``, the object's box there; checked by the loop.

        Returns:
            The state.
        """
        ...

    def update(self, state: Any, frame: Tensor) -> tuple[Any, Tensor, float | Tensor]:
        """Find the object in the next frame.

        Args:
            state: From ``init`` or the last ``update``; not changed.
            frame: ``(3, H, W)``.

        Returns:
            The new state; the box ``(4,)``, which may leave the frame; and a score, higher where surer.
        """
        ...


class LookingTracker(ABC):
    """A :class:`Tracker` that looks at a frame before it decides, so that it can be asked about any box there.

    ``update`` is ``decide`` after ``look``. The loop asks for the score of the true box once the tracker has decided:
    the answer is of the state before, and nothing that is asked can reach the next state. A subclass that replaces
    ``update`` itself is not asked.
    """

    def update(self, state: Any, frame: Tensor) -> tuple[Any, Tensor, float | Tensor]:
        """Find the object in the next frame, as :meth:`Tracker.update`."""
        return self.decide(state, self.look(state, frame))

    @abstractmethod
    def look(self, state: Any, frame: Tensor) -> Any:
        """Return what is seen of a frame ``(3, H, W)``: what costs a pass of the network."""

    @abstractmethod
    def decide(self, state: Any, view: Any) -> tuple[Any, Tensor, float | Tensor]:
        """Return what ``update`` does, from what ``look`` returned for this state."""

    @abstractmethod
    def box_score(self, state: Any, view: Any, box: Tensor) -> float:
        """Return the score that a box has for this tracker, before any preference for places; it draws no numbers.

        Args:
            state: As ``look`` had it.
            view: What ``look`` returned.
            box: ``(4,)`` in pixels of the frame, with a size.

        Returns:
            The score; minus infinity where the tracker does not search at the box's centre.
        """

    def found(self, state: Any) -> bool | None:
        """Tell whether the object was found in the last frame of a state; None: this tracker does not judge that."""
        return None


class IdentityTracker:
    """The example in ten lines, and the floor that every tracker must beat: the object never moves."""

    def init(self, frame: Tensor, box: Tensor) -> Tensor:
        """Remember the box."""
        return box

    def update(self, state: Tensor, frame: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return the box again."""
        return state, state, 1.0
