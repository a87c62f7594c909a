"""Learning rates as parameters: A_init and A_on, one rate a parameter and step (section 3, "Meta-parameters")."""

from __future__ import annotations

import torch
from torch import nn

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
        self.learned = nn.ParameterDict()
        if kind == "vector":
            for name, p in network.head().items():
                self.learned[name.replace(".", "_")] = nn.Parameter(torch.full((steps, *p.shape[1:]), initial))
        elif kind == "scalar":
            self.learned["all"] = nn.Parameter(torch.tensor(initial))
        self.register_buffer("fixed", torch.tensor(initial) if kind == "fixed" else None)

    def steps(self) -> list[Head]:
        """Return alpha^1 to alpha^K by parameter, with a leading dimension for the clips."""
        if self.fixed is not None or "all" in self.learned:
            shared = (self.fixed if self.fixed is not None else self.learned["all"])[None]
            return [dict.fromkeys(self.names, shared)] * self.count
        return [{n: self.learned[n.replace(".", "_")][k][None] for n in self.names} for k in range(self.count)]
