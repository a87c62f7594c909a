"""Algorithm 1 of MLT: match, remember, and every T frames let the meta-learner make kernels for the target.

Shapes: M patches in memory, R cells of a response's side, S pixels of a crop's side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lightning_fewshot.models.mlt.meta_learner import Specialiser
from lightning_fewshot.models.mlt.network import MatchingNetwork, MatchState
from lightning_fewshot.models.mlt.settings import Choice, Memory
from lightning_fewshot.nn.siamese import folded
from lightning_fewshot.tracking.crops import CropSettings, crop, search_windows
from lightning_fewshot.tracking.response import Following, ResponseTracker, Search


class Remembered(NamedTuple):
    """One context patch of the memory.

    Args:
        rank: Lower stays; see ``RANKS``.
        patch: ``(3, S, S)`` float32 in [0, 255], the target at its centre.
    """

    rank: float
    patch: Tensor


class Knowledge(NamedTuple):
    """What the tracker knows of a target.

    Args:
        match: Exemplar and kernels.
        memory: At most M patches of the last T frames, by rising rank.
        frames: Frames seen, the first one included.
    """

    match: MatchState
    memory: tuple[Remembered, ...] = ()
    frames: int = 1


class MatchTracker(ResponseTracker):
    """The exemplar of the first frame, matched with search windows; nothing is learned on the way.

    Args:
        network: The matching network, in evaluation mode.
        search: How responses become a box.
        crops: Which crops are cut.
        device: The network's.
    """

    def __init__(
        self, network: MatchingNetwork, search: Search, crops: CropSettings, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(search, crops, network.stream.stride, device)
        self._network = network
        self.predict = folded(network).predict

    def adapt(self, exemplar: Tensor) -> MatchState:
        """Look at the exemplar."""
        return self._network.adapt(exemplar)

    def respond(self, model: MatchState, crops: Tensor) -> Tensor:
        """Match all scales at once, eq. (1)."""
        return self.predict(model, crops)[0]


class MetaTracker(ResponseTracker):
    """Algorithm 1. With ``update_every`` 0 it is the matching network alone.

    Args:
        specialiser: Matching network and meta-learner, in evaluation mode.
        memory: What is remembered, and how often kernels are made.
        search: How responses become a box.
        crops: Which crops are cut.
        device: The networks'.
    """

    def __init__(
        self,
        specialiser: Specialiser,
        memory: Memory,
        search: Search,
        crops: CropSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(search, crops, specialiser.network.stream.stride, device)
        # Public and plain, so part of a result file's fingerprint.
        self.memory_settings = astuple(memory)
        self.gradient_settings = astuple(specialiser.loss)
        self._memory = memory
        self._specialiser = specialiser
        self.predict = folded(specialiser.network).predict

    def adapt(self, exemplar: Tensor) -> Knowledge:
        """Match with the first exemplar; there are no target-specific kernels yet."""
        return Knowledge(self._specialiser.network.adapt(exemplar))

    def respond(self, model: Knowledge, crops: Tensor) -> Tensor:
        """Match all scales at once, eq. (1), or eq. (4) once there are kernels."""
        return self.predict(model.match, crops)[0]

    def learn(self, state: Following, frame: Tensor, response: Tensor) -> Knowledge:
        """Remember the new context patch; every T frames, make new kernels from the memory, if any, and empty it."""
        known: Knowledge = state.model._replace(frames=state.model.frames + 1)
        period = self._memory.update_every
        if not period:
            return known
        known = known._replace(memory=self._remember(known.memory, state, frame, response=response))
        if known.frames % period or not known.memory:
            return known
        patches = torch.stack([r.patch for r in known.memory])
        return Knowledge(self._specialiser.from_patches(known.match, patches), (), known.frames)

    def _remember(
        self, remembered: tuple[Remembered, ...], state: Following, frame: Tensor, response: Tensor
    ) -> tuple[Remembered, ...]:
        """Keep the M patches of least rank. One that is not among them, or has no match, is not even cut."""
        least = -inf if self._memory.least_score is None else self._memory.least_score
        if float(response.amax()) <= least:
            return remembered
        rank = float(RANKS[self._memory.choice](response))
        if len(remembered) == self._memory.size and rank >= remembered[-1].rank:
            return remembered
        window = search_windows(state.box, context=self.crops.context, ratio=self.crops.ratio)
        patch = crop(frame, window[None], self.crops.search, state.fill)[0]
        kept = sorted((*remembered, Remembered(rank, patch)), key=lambda r: r.rank)
        return tuple(kept[: self._memory.size])


def response_entropy(responses: Tensor) -> Tensor:
    """Return eq. (5)'s entropy of responses, ``-sum_p sigma(y[p]) log sigma(y[p])``.

    Args:
        responses: ``(..., R, R)``.

    Returns:
        ``(...)``.

    >>> round(response_entropy(torch.zeros(1, 2)).item(), 4)
    0.6931
    """
    return (torch.sigmoid(responses) * softplus(-responses)).sum((-2, -1))


RANKS: dict[Choice, Callable[[Tensor], Tensor]] = {
    "entropy": response_entropy,  # eq. (5)
    "score": lambda response: -response.amax(),
    "random": lambda response: torch.rand(()),
}
