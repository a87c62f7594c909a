"""``python -m lightning_fewshot score DIR --benchmark otb --root R``: score anybody's raw result files."""

from __future__ import annotations

from pathlib import Path

from lightning_fewshot.cli.errors import one_line_errors
from lightning_fewshot.cli.run_folder import make_run_dir, shared_run_dir
from lightning_fewshot.tracking.score import main as score


def run(command: str, args: list[str]) -> Path:
    """Score; return the run folder."""
    with shared_run_dir(), one_line_errors():
        return score(args, lambda wanted: make_run_dir(wanted, command))
