"""How much memory one training step takes, measured before there is a GPU or data: see ``fit --estimate``.

Activations are counted where autograd keeps them, by saved-tensor hooks, in a forward pass on the CPU; what several
layers share counts once. A step of B examples is measured on two and on three of them and continued to B in a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.module import FewShotModule

GB = 1e9
MEASURED = (2, 3)  # examples of the steps that a larger one is continued from; some losses need two
NOT_ON_META = ("fused", "foreach", "capturable")  # how an optimiser computes, not what it keeps


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step.

    Args:
        parameters: Parameters and buffers.
        gradients: Of what is trained.
        optimizer_states: What the optimiser keeps.
        activations: What autograd keeps for the backward pass, at its peak.
        episode: The examples of the step.
    """

    parameters: int
    gradients: int
    optimizer_states: int
    activations: int
    episode: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        """Return a line for each part."""
        rows = {field.name.replace("_", " "): getattr(self, field.name) for field in fields(self)}
        return "\n".join(f"  {name:<18}{value / GB:8.3f} GB" for name, value in {**rows, "total": self.total}.items())


def step_memory(
    module: FewShotModule,
    episode_of: Callable[[int], Episode],
    batch_size: int,
    precision: AbstractContextManager | None = None,
) -> StepMemory:
    """Return the memory of a training step.

    Args:
        module: As a run makes it, on the CPU.
        episode_of: Makes a training episode of so many examples.
        batch_size: Examples of a step.
        precision: Context in which a step computes; None: float32.
    """
    module.train()
    counts = MEASURED if batch_size > max(MEASURED) else (batch_size,)
    episodes = [episode_of(count) for count in counts]
    kept = [saved_bytes(lambda e=e: module.loss(e), module, precision or nullcontext()) for e in episodes]
    sizes = [examples_bytes(episode.support) + examples_bytes(episode.query) for episode in episodes]
    return StepMemory(
        parameters=_bytes([*module.parameters(), *module.buffers()]),
        gradients=_bytes(p for p in module.parameters() if p.requires_grad),
        optimizer_states=optimizer_bytes(module),
        activations=_continued(kept, counts, batch_size),
        episode=_continued(sizes, counts, batch_size),
    )


def saved_bytes(run: Callable[[], Any], module: nn.Module, context: AbstractContextManager | None = None) -> int:
    """Return the most bytes that autograd keeps at a time while something is computed, parameters left out."""
    ledger = _Ledger(_place(t) for t in (*module.parameters(), *module.buffers()))
    with torch.enable_grad(), context or nullcontext(), saved_tensors_hooks(ledger.pack, _unpack):
        run()
    return ledger.peak


def optimizer_bytes(module: FewShotModule) -> int:
    """Return what the module's optimiser keeps after its first step, found without computing it."""
    groups = []
    for group in module.parameter_groups():
        empty = [nn.Parameter(torch.empty_like(p, device="meta")) for p in group["params"]]
        for parameter in empty:
            parameter.grad = torch.empty_like(parameter)
        groups.append({**group, "params": empty})
    settings = module.optimization
    options = {name: value for name, value in settings.options.items() if name not in NOT_ON_META}
    optimizer = type(settings)(**{**vars(settings), "options": options}).make_optimizer(groups)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.numel() * value.element_size() for value in states if isinstance(value, Tensor))


def examples_bytes(examples: Examples | None) -> int:
    """Return the bytes of all tensors of examples."""
    return _bytes(_tensors(examples))


class _Ledger:
    """What is kept now, by the place of its memory, and the most that was."""

    def __init__(self, left_out: Iterable[int]) -> None:
        self.left_out = set(left_out)
        self.holders: dict[int, int] = {}
        self.now = 0
        self.peak = 0

    def pack(self, tensor: Tensor) -> Tensor | _Kept:
        """Count a tensor that autograd keeps."""
        return tensor if _place(tensor) in self.left_out else _Kept(tensor, self)

    def change(self, place: int, size: int, by: int) -> None:
        """Count one holder of a piece of memory more, or one less."""
        before = self.holders.get(place, 0)
        self.holders[place] = before + by
        self.now += size * (by if 0 in (before, before + by) else 0)
        self.peak = max(self.peak, self.now)


class _Kept:
    """A tensor in the hands of autograd, which lets go of it when it drops this."""

    def __init__(self, tensor: Tensor, ledger: _Ledger) -> None:
        self.tensor = tensor
        self.ledger = ledger
        ledger.change(*self._memory(), by=1)

    def __del__(self) -> None:
        self.ledger.change(*self._memory(), by=-1)

    def _memory(self) -> tuple[int, int]:
        return _place(self.tensor), self.tensor.untyped_storage().nbytes()


def _unpack(packed: Tensor | _Kept) -> Tensor:
    return packed.tensor if isinstance(packed, _Kept) else packed


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _continued(values: list[int], counts: tuple[int, ...], batch_size: int) -> int:
    """Continue what was measured on a few examples in a line."""
    slope = values[-1] - values[0] if len(values) > 1 else 0
    return values[0] + slope * (batch_size - counts[0])


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
