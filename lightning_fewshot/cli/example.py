"""``python -m lightning_fewshot example DIR``: small files of every task, drawn, with the commands to try on them."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from lightning_fewshot.cli.commands import PROG
from lightning_fewshot.cli.errors import one_line_errors

WRITER = "datamodules.world.example_files"  # named as a config names data: the library imports none


def main(args: list[str]) -> Path:
    """Write the files; return their folder."""
    parser = argparse.ArgumentParser(prog=f"{PROG} example", description="Write small example files of every task.")
    parser.add_argument("folder", metavar="DIR", help="A new folder, or an empty one.")
    with one_line_errors():
        folder = importlib.import_module(WRITER).write_examples(parser.parse_args(args).folder)
    print((folder / "README.md").read_text(), end="")
    return folder
