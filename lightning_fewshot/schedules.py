"""The learning rate over a run, as a factor of its initial value."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "cosine", "geometric", "steps"]


def lr_factor(
    step: int,
    total: int,
    schedule: Schedule = "cosine",
    warmup: float = 0.0,
    final: float = 0.01,
    milestones: tuple[float, ...] = (0.6, 0.9),
) -> float:
    """Return the factor at ``step`` of ``total``.

    Args:
        step: Optimiser steps taken so far.
        total: Optimiser steps of the whole run.
        schedule: "constant"; "cosine" or "geometric" from 1 to ``final``; "steps" times 0.1 at each milestone.
        warmup: Fraction of the run in which the factor rises linearly from 0.
        final: Factor at the end of "cosine" and "geometric".
        milestones: Fractions of the run at which "steps" drops.

    >>> [round(lr_factor(s, 100, "geometric", final=0.01), 3) for s in (0, 50, 100)]
    [1.0, 0.1, 0.01]
    >>> [round(lr_factor(s, 100, "steps", warmup=0.1), 3) for s in (4, 50, 70, 95)]
    [0.5, 1.0, 0.1, 0.01]
    """
    done = min(step / max(total, 1), 1.0)
    rise = min((step + 1) / max(warmup * total, 1e-9), 1.0)
    if schedule == "constant":
        return rise
    if schedule == "cosine":
        return rise * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))
    if schedule == "geometric":
        return rise * final**done
    return rise * 0.1 ** sum(done >= milestone for milestone in milestones)
