"""The command line: ``python -m lightning_fewshot COMMAND ...``.

Help and typing errors import neither torch nor Lightning.
"""

from __future__ import annotations

import sys
from typing import Any

from lightning_fewshot.cli.commands import run_command


def main(args: list[str] | None = None) -> Any:
    """Run one command; see :mod:`lightning_fewshot.cli.commands`."""
    return run_command(sys.argv[1:] if args is None else list(args))
