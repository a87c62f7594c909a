"""CSV and W&B side by side. Without an account or a network, W&B writes to the run folder and says how to sync."""

from __future__ import annotations

import netrc
import os
import socket
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger

WANDB_HOST = "api.wandb.ai"


def run_loggers(run_dir: Path, experiment: str) -> list[Logger]:
    """Return the loggers of a run; the CSV one is first, so that ``trainer.log_dir`` is the run folder."""
    return [CSVLogger(save_dir=str(run_dir), name="", version=""), *_wandb_logger(run_dir, experiment)]


def _wandb_logger(run_dir: Path, experiment: str) -> list[Logger]:
    if os.environ.get("WANDB_MODE") == "disabled":
        return []
    from pytorch_lightning.loggers import WandbLogger

    reason = why_offline()
    if reason and int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print(f"W&B runs offline ({reason}); upload this run later with: wandb sync {run_dir}/wandb/offline-run-*")
    os.environ.setdefault("WANDB_SILENT", "true")
    return [WandbLogger(name=experiment, project="lightning_fewshot", save_dir=str(run_dir), offline=bool(reason))]


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
