"""Learning rates as parameters: A_init and A_on, one rate a parameter and step (section 3, "Meta-parameters").

What is learned is the logarithm of a rate: an optimiser's step changes a rate by a share of itself, and never its sign.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_fewshot.models.metartt.settings import RateKind
from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.network import CandidateNetwork


class Rates(nn.Module):
    """The learning rates of K steps: A_init or A_on.

    Args:
        network: Whose head they belong to.
        steps: K.
        kind: See :class:`~lightning_fewshot.models.metartt.settings.InnerLoop`.
        initial: First value.
    """

    def __init__(self, network: CandidateNetwork, steps: int, kind: RateKind, initial: float) -> None:
        super().__init__()
        self.count = steps
        self.names = list(network.head())
        self.logs = nn.ParameterDict()
        if kind == "vector":
            for name, p in network.head().items():
                logs = torch.full((steps, *p.shape[1:]), math.log(initial))
                self.logs[name.replace(".", "_")] = nn.Parameter(logs)
        elif kind == "scalar":
            self.logs["all"] = nn.Parameter(torch.tensor(math.log(initial)))
        self.register_buffer("fixed", torch.tensor(initial) if kind == "fixed" else None)

    def learned(self) -> dict[str, Tensor]:
        """Return the rates that are learned, all steps of a parameter together ``(K, ...)``."""
        return {name: log.exp() for name, log in self.logs.items()}

    def steps(self) -> list[Head]:
        """Return alpha^1 to alpha^K by parameter, with a leading dimension for the clips."""
        learned = self.learned()
        if self.fixed is not None or "all" in learned:
            shared = (self.fixed if self.fixed is not None else learned["all"])[None]
            return [dict.fromkeys(self.names, shared)] * self.count
        return [{n: learned[n.replace(".", "_")][k][None] for n in self.names} for k in range(self.count)]
