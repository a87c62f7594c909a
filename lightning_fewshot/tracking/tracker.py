"""What a tracker is, and the smallest one."""

from __future__ import annotations

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


class IdentityTracker:
    """The example in ten lines, and the floor that every tracker must beat: the object never moves."""

    def init(self, frame: Tensor, box: Tensor) -> Tensor:
        """Remember the box."""
        return box

    def update(self, state: Tensor, frame: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return the box again."""
        return state, state, 1.0
