"""CSV and W&B side by side. Without an account or a network, W&B writes to the run folder and says how to sync."""

from __future__ import annotations

import netrc
import os
import socket
import sys
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

WANDB_HOST = "api.wandb.ai"


def run_loggers(run_dir: Path, experiment: str) -> list[Logger]:
    """Return the loggers of a run; the CSV one is first, so that ``trainer.log_dir`` is the run folder."""
    return [CSVLogger(save_dir=str(run_dir), name="", version=""), *_wandb_logger(run_dir, experiment)]


def _wandb_logger(run_dir: Path, experiment: str) -> list[Logger]:
    if os.environ.get("WANDB_MODE") == "disabled":
        return []
    reason = why_offline()
    if reason and int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print(f"W&B runs offline ({reason}); upload this run later with: wandb sync {run_dir}/wandb/offline-run-*")
    os.environ.setdefault("WANDB_SILENT", "true")
    project = os.environ.get("WANDB_PROJECT", "lightning_fewshot")
    mode = "offline" if reason else "online"
    logger = WandbLogger(name=experiment, project=project, save_dir=str(run_dir), mode=mode)
    logger._wandb_init.pop("anonymous", None)  # W&B warns of this key, which Lightning always sets
    return [logger]


def wandb_loggers(trainer: pl.Trainer) -> list[WandbLogger]:
    """Return the loggers of a trainer that take pictures and summaries."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def finish_loggers(failed: bool) -> None:
    """End the W&B run of this command, so that another command in the same process starts its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=int(failed))


def why_offline() -> str | None:
    """Return why W&B cannot be reached, or None where it can."""
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        return "WANDB_MODE asks for it"
    if not os.environ.get("WANDB_API_KEY") and not _has_netrc_entry():
        return "no account: run `wandb login`"
    try:
        socket.create_connection((WANDB_HOST, 443), timeout=2).close()
    except OSError:
        return "no network"
    return None


def _has_netrc_entry() -> bool:
    try:
        return netrc.netrc().authenticators(WANDB_HOST) is not None
    except (OSError, netrc.NetrcParseError):
        return False
