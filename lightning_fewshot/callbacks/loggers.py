"""CSV and W&B side by side. Without an account or a server, W&B writes to the run folder and says how to sync.

W&B is never worth a run: a server that is down, hangs or fails costs seconds, at the start and at the end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_warn

from lightning_fewshot.callbacks.metrics_file import MetricsFile
from lightning_fewshot.callbacks.wandb_server import why_offline

START_SECONDS = 7  # for a run to be made on the server, after it has answered once
FINISH_SECONDS = 15  # for what is not uploaded yet when the command ends


def run_loggers(run_dir: Path, experiment: str, until: int | None = None, wandb: bool = True) -> list[Logger]:
    """Return the loggers of a run; the CSV one is first, so that ``trainer.log_dir`` is the run folder.

    Args:
        run_dir: Folder of the run.
        experiment: Name of the run.
        until: See MetricsFile.
        wandb: Whether to log to W&B too.
    """
    wanted = wandb and os.environ.get("WANDB_MODE") != "disabled"
    return [MetricsFile(run_dir, until), *([_wandb_logger(run_dir, experiment)] if wanted else [])]


def _wandb_logger(run_dir: Path, experiment: str) -> WandbLogger:
    """Return the logger of a run that has begun: online where the server takes it in time, else offline."""
    os.environ.setdefault("WANDB_SILENT", "true")
    reason = why_offline()
    if reason is None:
        logger = _GuardedLogger(experiment, run_dir, "online")
        try:
            logger.experiment  # noqa: B018  begins the run
            return logger
        except Exception as error:  # W&B's own, and whatever its service raises
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print(f"W&B runs offline ({reason}); upload this run later with: wandb sync {run_dir}/wandb/offline-run-*")
    return _GuardedLogger(experiment, run_dir, "offline")


class _GuardedLogger(WandbLogger):
    """Log to W&B as long as it takes it; when it fails in the middle of a run, warn once and go on without."""

    def __init__(self, experiment: str, run_dir: Path, mode: str) -> None:
        project = os.environ.get("WANDB_PROJECT", "lightning_fewshot")
        super().__init__(name=experiment, project=project, save_dir=str(run_dir), mode=mode, settings=_settings())
        self._wandb_init.pop("anonymous", None)  # W&B warns of this key, which Lightning always sets
        self._failed = False

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Log numbers."""
        self._guard(super().log_metrics, *args, **kwargs)

    def log_image(self, *args: Any, **kwargs: Any) -> None:
        """Log pictures."""
        self._guard(super().log_image, *args, **kwargs)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log the config."""
        self._guard(super().log_hyperparams, *args, **kwargs)

    def log_summary(self, values: dict[str, Any]) -> None:
        """Log the results of a run."""
        self._guard(lambda: self.experiment.summary.update(values))

    def _guard(self, log: Any, *args: Any, **kwargs: Any) -> None:
        if self._failed:
            return
        try:
            log(*args, **kwargs)
        except Exception as error:  # W&B's own, and broken pipes of its service
            self._failed = True
            rank_zero_warn(f"W&B takes no more of this run ({type(error).__name__}: {error}); it goes on without")


def _settings() -> Any:
    import wandb

    known = getattr(wandb.Settings, "model_fields", {})
    finish = {"finish_timeout": FINISH_SECONDS} if "finish_timeout" in known else {}
    return wandb.Settings(init_timeout=START_SECONDS, **finish)


def wandb_loggers(trainer: pl.Trainer) -> list[_GuardedLogger]:
    """Return the loggers of a trainer that take pictures and summaries."""
    return [logger for logger in trainer.loggers if isinstance(logger, _GuardedLogger)]


def finish_loggers(failed: bool) -> None:
    """End the W&B run of this command, so that another command in the same process starts its own."""
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    try:
        wandb.finish(exit_code=int(failed))
    except Exception as error:  # the run is over, and its files are on the disk
        print(f"W&B did not end the run ({type(error).__name__}: {error}); upload it later with `wandb sync`")
