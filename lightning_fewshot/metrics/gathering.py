"""Gather metric states that live on the CPU, whatever the back end of the process group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import get_backend
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from lightning_fewshot.episodes import Episode


def gather_to_cpu(state: Tensor, group: object | None = None) -> list[Tensor]:
    """Collect the state of every process, of different lengths, on the CPU of each.

    NCCL moves tensors of the GPU only, so a state makes the detour; torchmetrics' own ``compute_on_cpu`` does not.

    Args:
        state: ``(N,)``, N may differ between processes.
        group: Process group; None: all.

    Returns:
        One ``(N_i,)`` for each process.
    """
    device = torch.device("cuda", torch.cuda.current_device()) if get_backend(group) == "nccl" else torch.device("cpu")
    return [part.cpu() for part in gather_all_tensors(state.to(device), group)]


def gather_rows(rows: list[Any]) -> list[Any]:
    """Return plain values of all processes in one list, in each of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(rows)
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, list(rows))
    return [row for part in parts for row in part]


def of_one_process(metric: Metric) -> Metric:
    """Let a metric, and those inside it, compute what this process gave it: it waits for no other process."""
    for part in metric.modules():
        part.distributed_available_fn = _no_other
    return metric


def values_of(metric: Metric, preds: Any, episode: Episode) -> dict[str, float]:
    """Return what a fresh metric says of one episode, in this process alone."""
    of_one_process(metric).update(preds, episode)
    return {name: float(estimate.value) for name, estimate in metric.compute().items()}


def _no_other() -> bool:
    return False
