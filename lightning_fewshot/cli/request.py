"""What a command line asks for, before it is parsed: its configs, its checkpoint, and whether it names a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fewshot.cli.config_files import read_config
from lightning_fewshot.cli.run_folder import resolve_latest

CHECKPOINT = "--ckpt_path"
REPEATED = "--data.box"  # given once for each object


class Request(NamedTuple):
    """A command with its arguments.

    Args:
        command: "fit", "validate", "test" or "predict".
        args: The arguments after it.
        config_paths: Config files in their order.
        configs: What they hold.
    """

    command: str
    args: list[str]
    config_paths: list[str]
    configs: list[dict[str, Any]]

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint that is given, if any."""
        given = option_values(self.args, CHECKPOINT)
        given = given or [c["ckpt_path"] for c in self.configs if c.get("ckpt_path")]
        return given[-1] if given else None

    def class_of(self, group: str) -> str | None:
        """Return the class that is named for "model" or "data", as far as anybody names one."""
        given = option_values(self.args, f"--{group}") + option_values(self.args, f"--{group}.class_path")
        in_files = [config[group] for config in self.configs if config.get(group)]
        named = [value if isinstance(value, str) else value.get("class_path") for value in in_files] + given
        return next((str(name) for name in reversed(named) if name), None)

    def group_of(self, setting: str) -> str | None:
        """Return the group, "model" or "data", in which somebody gave a setting."""
        for group in ("model", "data"):
            names = [a.partition("=")[0].split(".") for a in self.args if a.startswith(f"--{group}.")]
            if any(setting in parts[1:] for parts in names):
                return group
            if any(_holds(config.get(group), setting) for config in self.configs):
                return group
        return None


def read_request(command: str, args: list[str]) -> Request:
    """Read the configs and put the arguments into the parser's words.

    W&B's agent writes ``None`` where a sweep has null. ``latest`` in a checkpoint's path is what it leads to now.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: A config that is none.
    """
    args = [
        f"{key}=null" if key.startswith("--") and value == "None" else f"{key}{equals}{value}"
        for key, equals, value in (arg.partition("=") for arg in args)
    ]
    for i, arg in enumerate(args):
        if arg.startswith(f"{CHECKPOINT}="):
            args[i] = f"{CHECKPOINT}={resolve_latest(arg.partition('=')[2])}"
        elif i and args[i - 1] == CHECKPOINT:
            args[i] = resolve_latest(arg)
    args = gathered(args, REPEATED)
    paths = option_values(args, "--config", "-c")
    return Request(command, args, paths, [read_config(path) for path in paths])


def option_values(args: list[str], *names: str) -> list[str]:
    """Return the values of an option in their order.

    >>> option_values(["--config", "a.yaml", "--x=1", "--config=b.yaml"], "--config")
    ['a.yaml', 'b.yaml']
    """
    values = []
    for i, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in names and equals:
            values.append(value)
        elif arg in names and i + 1 < len(args):
            values.append(args[i + 1])
    return values


def gathered(args: list[str], name: str) -> list[str]:
    """Return arguments in which an option that is given several times is given once, with the list of its values.

    >>> gathered(["--box", "1,2,3,4", "--x=1", "--box=5,6,7,8"], "--box")
    ['--x=1', '--box=["1,2,3,4", "5,6,7,8"]']
    """
    values = option_values(args, name)
    if len(values) < 2:
        return args
    rest = [
        arg
        for i, arg in enumerate(args)
        if arg != name and not arg.startswith(f"{name}=") and not (i and args[i - 1] == name)
    ]
    return [*rest, f"{name}={json.dumps(values)}"]


def config_files(request: Request) -> list[str]:
    """Return the configs that are files, for the run's name."""
    return [path for path in request.config_paths if Path(path).suffix]


def _holds(value: Any, key: str) -> bool:
    if not isinstance(value, dict):
        return False
    return key in value or any(_holds(item, key) for item in value.values())
