"""The parser, and what it says of a mistake: the key, the class that has no such key, and where its keys are listed."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser

from lightning_fewshot.cli.commands import PROG
from lightning_fewshot.cli.errors import reason
from lightning_fewshot.cli.request import Request

UNKNOWN = re.compile(r"Option '([\w.]+)' is not accepted")
NO_CLASS = re.compile(r"Problem with given class_path '([\w.]+)':\s+(.+)")
MISSING = re.compile(r"arguments are required: (?:\w+\.)?(model|data)$")


class Misspelt(Exception):
    """What the parser cannot make sense of."""


class Parser(LightningArgumentParser):
    """A parser whose errors are not buried under sixty lines of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Pass the message on to the command line, which knows what was asked for."""
        raise Misspelt(message) from ex


def explain(message: str, request: Request) -> str:
    """Return the parser's message with the class that it is about, and the command that lists what can be set."""
    unknown, missing = UNKNOWN.search(message), MISSING.search(message)
    group = request.group_of(unknown[1]) if unknown else None
    if group is not None:
        class_path = request.class_of(group) or "CLASS"
        near = _nearest(unknown[1], class_path)
        guess = f"; did you mean {near!r}?" if near else ""
        return (
            f"{group}.{unknown[1]} is not accepted: {class_path} has no such setting{guess}\n"
            f"Its settings: {PROG} {request.command} --{group}.help {class_path}"
        )
    no_class = NO_CLASS.search(message)
    if no_class:
        near = _nearest_class(no_class[1])
        message = f"there is no class {no_class[1]}: {no_class[2]}" + (f"; did you mean {near!r}?" if near else "")
    if missing:
        message = f"no {missing[1]} is named: give --config FILE or --{missing[1]} CLASS"
        message += "" if request.command == "fit" else ", or --ckpt_path of a run of this version"
    return f"{reason(message)}\nAll keys: {PROG} {request.command} --help"


def _nearest(name: str, class_path: str) -> str | None:
    """Return the setting of a class that a misspelt one may have meant."""
    module_name, _, class_name = class_path.rpartition(".")
    try:
        cls: Any = getattr(importlib.import_module(module_name), class_name)
        names = [p for base in cls.__mro__ if "__init__" in vars(base) for p in inspect.signature(base).parameters]
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
    last = name.rpartition(".")[2]
    near = difflib.get_close_matches(last, {n for n in names if n != last}, n=1)
    return near[0] if near else None


def _nearest_class(class_path: str) -> str | None:
    """Return the class in the same module that a misspelt one may have meant."""
    module_name, _, name = class_path.rpartition(".")
    try:
        near = difflib.get_close_matches(name, dir(importlib.import_module(module_name)), n=1)
    except (ImportError, ValueError):
        return None
    return f"{module_name}.{near[0]}" if near else None
