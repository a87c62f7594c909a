"""The command line: ``python -m lightning_fewshot {fit,validate,test,predict,score}``."""

from __future__ import annotations

from typing import Any


def main(args: list[str] | None = None) -> Any:
    """Run one command; see :func:`lightning_fewshot.cli.run.main`."""
    from lightning_fewshot.cli.run import main as run

    return run(args)
