"""Algorithm 1 of MLT: match, remember, and every T frames let the meta-learner make kernels for the target.

Shapes: M patches in memory, R cells of a response's side, S pixels of a crop's side.
"""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lightning_fewshot.models.mlt.network import EXEMPLAR, MatchState
from lightning_fewshot.tracking.crops import crop, search_windows
from lightning_fewshot.tracking.response import Following, ResponseTracker


class Remembered(NamedTuple):
    """One context patch of the memory.

    Args:
        entropy: Of the response that found the target, eq. (5).
        patch: ``(3, S, S)`` float32 in [0, 255], the target at its centre.
    """

    entropy: float
    patch: Tensor


class Knowledge(NamedTuple):
    """What the tracker knows of a target.

    Args:
        match: Exemplar and kernels.
        memory: At most M patches of the last T frames, by rising entropy.
        frames: Frames seen, the first one included.
    """

    match: MatchState
    memory: tuple[Remembered, ...] = ()
    frames: int = 1


class MetaTracker(ResponseTracker):
    """Algorithm 1. Without a meta-learner, or with ``update_every`` 0, it is the matching network alone."""

    def __init__(self, module: Any) -> None:
        super().__init__(module.search, module.device, EXEMPLAR, context=module.context)
        self.update_every = module.update_every if module.meta is not None else 0
        self.remembered, self.radius = module.memory, module.radius
        self.least_score = -inf if module.least_score is None else module.least_score
        self._module = module

    def adapt(self, exemplar: Tensor) -> Knowledge:
        """Match with the first exemplar; there are no target-specific kernels yet."""
        return Knowledge(self._module.network.adapt(exemplar))

    def respond(self, model: Knowledge, crops: Tensor) -> Tensor:
        """Match all scales at once, eq. (1), or eq. (4) once there are kernels."""
        return self._module.network.predict(model.match, crops)[0]

    def learn(self, state: Following, frame: Tensor, response: Tensor) -> Knowledge:
        """Remember the new context patch; every T frames, make new kernels from the memory, if any, and empty it."""
        known: Knowledge = state.model._replace(frames=state.model.frames + 1)
        if not self.update_every:
            return known
        known = known._replace(memory=self._remember(known.memory, state, frame, response))
        if known.frames % self.update_every or not known.memory:
            return known
        patches = torch.stack([r.patch for r in known.memory])
        return Knowledge(self._module.specialise(known.match, patches), (), known.frames)

    def _remember(
        self, memory: tuple[Remembered, ...], state: Following, frame: Tensor, response: Tensor
    ) -> tuple[Remembered, ...]:
        """Keep the M patches of least entropy. One that is not among them, or has no match, is not even cut."""
        if float(response.amax()) <= self.least_score:
            return memory
        entropy = float(response_entropy(response))
        if len(memory) == self.remembered and entropy >= memory[-1].entropy:
            return memory
        window = search_windows(state.box, context=self.context, ratio=self.size / self.exemplar)
        patch = crop(frame, window[None], self.size, state.fill)[0]
        kept = sorted((*memory, Remembered(entropy, patch)), key=lambda r: r.entropy)
        return tuple(kept[: self.remembered])


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
