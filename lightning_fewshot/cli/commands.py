"""The commands: what each does, and where its code is. Only the chosen one is imported."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any, NamedTuple

PROG = "python -m lightning_fewshot"


class Command(NamedTuple):
    """A word of the command line.

    Args:
        help: What it does, in one line.
        target: ``module:function``; the function gets the arguments after the command.
        named: Whether it gets the command's name before them.
    """

    help: str
    target: str
    named: bool = False


COMMANDS = {
    "fit": Command("Train, and test the best checkpoint.", "lightning_fewshot.cli.run:run", named=True),
    "validate": Command("Evaluate a checkpoint on the validation split.", "lightning_fewshot.cli.run:run", named=True),
    "test": Command(
        "Evaluate a checkpoint on the test split: a table and results.json.",
        "lightning_fewshot.cli.run:run",
        named=True,
    ),
    "predict": Command("Predict on your own images or videos.", "lightning_fewshot.cli.run:run", named=True),
    "score": Command(
        "Score result files of any tracker on a benchmark.", "lightning_fewshot.cli.score:run", named=True
    ),
    "sweep": Command("Run the cells of a sweep file, without an account.", "lightning_fewshot.cli.sweep:main"),
    "table": Command("Show a paper's table with the values of runs beside it.", "lightning_fewshot.cli.table:main"),
    "example": Command(
        "Write small example files of every task, with their commands.", "lightning_fewshot.cli.example:main"
    ),
    "export": Command("Write a network that is adapted to your examples as ONNX.", "lightning_fewshot.cli.export:main"),
    "report": Command("Write one self-contained page about runs.", "lightning_fewshot.cli.report:main"),
}
EXAMPLES = """\
  fit --config experiments/repmet.yaml
  fit --config experiments/repmet/paper.yaml --estimate
  test --ckpt_path runs/repmet/latest/checkpoints/best.ckpt
  predict --ckpt_path runs/repmet/latest/checkpoints/best.ckpt --config experiments/data/folder.yaml --data.root DIR
"""


def run_command(args: list[str]) -> Any:
    """Run the command that the first argument names, and return what it returns.

    Raises:
        SystemExit: Help was asked for (0), or there is no such command (2).
    """
    if not args or args[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        sys.exit(0)
    if args[0] == "--version":
        from lightning_fewshot import __version__

        print(__version__)
        sys.exit(0)
    if args[0] not in COMMANDS:
        print(f"error: {unknown(args[0])}", file=sys.stderr)
        sys.exit(2)
    command = COMMANDS[args[0]]
    module_name, _, name = command.target.partition(":")
    function = getattr(importlib.import_module(module_name), name)
    return function(args[0], args[1:]) if command.named else function(args[1:])


def help_text() -> str:
    """Return the commands, some examples, and where to read on."""
    width = max(map(len, COMMANDS)) + 2
    lines = "".join(f"  {name:<{width}}{command.help}\n" for name, command in COMMANDS.items())
    return (
        f"usage: {PROG} COMMAND ...\n\nFew-shot vision: look at a few labelled examples, then predict.\n\n"
        f"commands:\n{lines}\nexamples:\n{EXAMPLES}\n"
        f"All keys of a command: {PROG} COMMAND --help\n"
        f"Settings of a model or of data: {PROG} fit --model.help CLASS, {PROG} fit --data.help CLASS\n"
    )


def unknown(word: str) -> str:
    """Return what to say of a word that is no command.

    >>> unknown("tset").partition(" Commands")[0]
    "there is no command 'tset'; did you mean 'test'?"
    """
    near = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
    if word.startswith("-"):
        return f"the command comes first, then {word}. Commands: {', '.join(COMMANDS)}"
    guess = f"; did you mean {near[0]!r}?" if near else "."
    return f"there is no command {word!r}{guess} Commands: {', '.join(COMMANDS)}"
