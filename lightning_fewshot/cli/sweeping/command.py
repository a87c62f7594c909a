"""The command of a cell, as ``wandb agent`` builds it, with the folder of its run."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

from lightning_fewshot.cli.sweeping.file import Sweep


def agent_command(sweep: Sweep, values: dict[str, Any]) -> list[str]:
    """Return the words that ``wandb agent`` runs for a cell: null is ``None``, true is ``True``."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    macros = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    macros["interpreter"] = ["python"]
    macros["program"] = [sweep.program]
    macros["env"] = [] if platform.system() == "Windows" else ["/usr/bin/env"]
    words: list[str] = []
    for word in create_sweep_command(list(sweep.command) if sweep.command else None):
        is_macro = word.startswith("${") and word.endswith("}")
        words += macros.get(word[2:-1]) or [] if is_macro else [word]
    return words


def cell_command(sweep: Sweep, values: dict[str, Any], folder: Path) -> list[str]:
    """Return the words of a cell: the agent's, with this Python, in its own folder, resumed where it was killed."""
    words = [sys.executable if word == "python" else word for word in agent_command(sweep, values)]
    words.append(f"--run_dir={folder}")
    last = folder / "checkpoints" / "last.ckpt"
    if "fit" in words and last.is_file() and not any(word.startswith("--ckpt_path") for word in words):
        words.append(f"--ckpt_path={last}")
    return words
