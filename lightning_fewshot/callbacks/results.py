"""Every validate and test ends in a table on the screen, in ``results.json`` in the run folder, and in a model card."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.table import Table

from lightning_fewshot import __version__
from lightning_fewshot.callbacks.card import command, write_card
from lightning_fewshot.callbacks.episode_values import EpisodeValues
from lightning_fewshot.callbacks.loggers import wandb_loggers
from lightning_fewshot.files import write_atomically

SCHEMA = "lightning_fewshot/results/1"
LIBRARIES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "timm", "numpy")


class ResultsFile(Callback):
    """Print and write what was measured: values with 95 % intervals, and the protocol they belong to.

    Args:
        run_dir: Folder of the run.
        experiment: Name of the run, from its config files.
    """

    def __init__(self, run_dir: Path, experiment: str) -> None:
        self.run_dir, self.experiment = Path(run_dir), experiment
        self._began = time.monotonic()
        self._episodes = EpisodeValues()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()
        self._episodes = EpisodeValues()

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Measure the episode by itself; not in training, where the next validation would replace it."""
        if trainer.state.fn != "fit":
            self._episodes.add(pl_module, outputs, batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write; print where validation is what was asked for."""
        self._finish(trainer, pl_module, "val", show=trainer.state.fn == "validate")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write and print."""
        self._finish(trainer, pl_module, "test", show=True)

    def _finish(self, trainer: pl.Trainer, module: pl.LightningModule, split: str, show: bool) -> None:
        per_episode = self._episodes.collect(list(module.estimates))  # all processes take part
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        record = self._record(trainer, module, split) | {"per_episode": per_episode}
        write_atomically(self.run_dir / "results.json", json.dumps(record, indent=1, allow_nan=False))
        is_kept = (self.run_dir / "checkpoints").is_dir() or (trainer.state.fn == "fit" and trainer.checkpoint_callback)
        write_card(record, module, trainer.datamodule, self.run_dir / "checkpoints" if is_kept else self.run_dir)
        for logger in wandb_loggers(trainer):
            logger.log_summary({f"{split}_results": record["metrics"]})
        if show:
            console = Console()
            console.print(results_table(record))
            console.print(f"run: {self.run_dir}", soft_wrap=True)

    def _record(self, trainer: pl.Trainer, module: pl.LightningModule, split: str) -> dict[str, Any]:
        data = trainer.datamodule
        weights = trainer.ckpt_path if trainer.state.fn != "fit" else None  # those of the moment have no file
        return {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "model": type(module).__name__,
            "data": type(data).__name__,
            "protocol": {
                **data.protocol(split),
                "weights": str(weights) if weights else None,
                "weights_sha256": _sha256(weights) if weights else None,
            },
            "metrics": {
                name: {"value": _number(e.value), "ci95": [_number(e.low), _number(e.high)], "n": e.n}
                for name, e in module.estimates.items()
            },
            "curves": module.curves,
            "step": module.loaded_step if weights else trainer.global_step,
            "command": command(),
            "versions": {"lightning_fewshot": __version__, "python": platform.python_version()}
            | {name: version(name) for name in LIBRARIES},
            "commit": _commit(),
            "device": _device(trainer),
            "wall_s": round(time.monotonic() - self._began, 3),
        }


def results_table(record: dict[str, Any]) -> Table:
    """Return the results of one run as a table for the screen."""
    protocol = record["protocol"]
    title = f"{record['model']}, {protocol['split']}: {protocol['n_way']}-way {protocol['k_shot']}-shot"
    table = Table(title=title)
    table.add_column("metric")
    for column in ("value", "95 % interval", "n"):
        table.add_column(column, justify="right")
    for name, metric in record["metrics"].items():
        value, low, high = (f"{v:.4f}" if v is not None else "-" for v in (metric["value"], *metric["ci95"]))
        table.add_row(name, value, f"{low} to {high}" if low != "-" else "-", str(metric["n"]))
    return table


def _number(value: float) -> float | None:
    """Return None for nan: JSON has no word for it."""
    return float(value) if math.isfinite(value) else None


def _sha256(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _commit() -> str | None:
    """Return the commit of the source tree that runs, with "+" where it was changed; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _device(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{trainer.world_size} x {name}, precision {trainer.precision}"
