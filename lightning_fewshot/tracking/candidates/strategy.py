"""What a candidate tracker knows of a target, and how it adapts: what RT-MDNet and MetaRTT do differently.

Shapes: P clips, J scenes of a frame, n samples of a scene, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.network import CandidateNetwork
from lightning_fewshot.tracking.candidates.regression import Ridge
from lightning_fewshot.tracking.candidates.samples import Samples


class View(NamedTuple):
    """Samples in scenes, and the head that looks at them.

    Args:
        scenes: ``(P, J, 3, S, S)``.
        boxes: ``(P, J, n, 4)`` in pixels of the scenes.
        head: theta, ``(P, ...)``.
    """

    scenes: Tensor
    boxes: Tensor
    head: Head


class SmallerNetwork(Protocol):
    """A network without the channels that one video does not need.

    Attributes:
        network: Its convolutions.
        scales: Factors ``(1, C)`` of the channels of fc4 and fc5 that are kept.
    """

    network: CandidateNetwork
    scales: Head

    def cut(self, head: Head) -> Head:
        """Cut parameters ``(P, ...)`` of the whole head down to what is kept."""
        ...


class Strategy(NamedTuple):
    """How a head is adapted.

    Args:
        start: Returns theta_init^0, one head.
        first: From a head and D_init to the head after the initial adaptation.
        online: From the head after the initial adaptation, the present one, D_on and the pruning to the next one.
        prune: From D_init, whose first so many boxes of each scene are positive, and the adapted head to a smaller
            network; None: the network stays whole.
    """

    start: Callable[[], Head]
    first: Callable[[Head, Samples], Head]
    online: Callable[[Head, Head, Samples, SmallerNetwork | None], Head]
    prune: Callable[[View, int], SmallerNetwork] | None = None


class TrackState(NamedTuple):
    """What is known about a target. Nothing in it is changed in place.

    Args:
        box: ``(4,)`` in pixels of the frame, before refinement.
        t: Number of the frame.
        found: Whether the target was found there.
        network: The shared network, pruned for this video or not.
        threshold: Score above which the target counts as found.
        initial: Head after the initial adaptation.
        head: The present head.
        pruned: What was pruned, or None.
        ridge: Box regression, or None.
        positives: Features ``(n, F)`` of positive samples, one tensor a remembered frame.
        negatives: The same of negative ones.
        fill: ``(3,)`` color around the frame.
    """

    box: Tensor
    t: int
    found: bool
    network: CandidateNetwork
    threshold: float
    initial: Head
    head: Head
    pruned: SmallerNetwork | None
    ridge: Ridge | None
    positives: tuple[Tensor, ...]
    negatives: tuple[Tensor, ...]
    fill: Tensor

    @property
    def masks(self) -> Head | None:
        """What multiplies fc4 and fc5."""
        return None if self.pruned is None else self.pruned.scales
