"""Config files, looked at before anything is made of them: small, mappings, and groups where groups belong."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from lightning_fewshot.text import MAX_NESTING, nesting

LARGEST_FILE = 1_000_000  # characters
MOST_NODES = 100_000  # values, with those that aliases repeat
GROUPS = ("trainer", "checkpoint", "pictures")
CLASSES = ("model", "data")  # a class, by its name or as a group


def read_config(path: str) -> dict[str, Any]:
    """Return the keys of a config file, or of a config that is written on the command line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, too large, no mapping, or has a value where a group of keys belongs.
    """
    is_inline = path.lstrip().startswith("{") or "\n" in path
    if not is_inline and not Path(path).is_file():
        raise FileNotFoundError(f"there is no config file {path}")
    name = "the config on the command line" if is_inline else path
    try:
        text = path if is_inline else Path(path).read_text(encoding="utf-8-sig")
        check_size(text)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        what = "is empty" if content is None else f"is a {type(content).__name__}"
        raise ValueError(f"{name} {what} but must be a mapping of keys such as 'model', 'data', 'trainer'")
    _check_groups(content, name)
    return content


def _check_groups(content: dict[str, Any], name: str) -> None:
    for key in GROUPS + CLASSES:
        value = content.get(key)
        if value is not None and not isinstance(value, (dict, str) if key in CLASSES else dict):
            raise ValueError(f"{name}: {key} is {value!r} but must be a group of keys; see `{key}` in --help")
        if key in GROUPS and key in content and value is None:
            raise ValueError(f"{name}: {key} is empty but must be a group of keys")


def check_size(text: str) -> None:
    """Refuse a yaml that is large, or becomes large when its aliases are written out.

    Raises:
        ValueError: Names the limit.
    """
    if len(text) > LARGEST_FILE:
        raise ValueError(f"it has {len(text)} characters, more than {LARGEST_FILE}")
    if (depth := nesting(text)) > MAX_NESTING:
        raise ValueError(f"it is nested {depth} deep, more than {MAX_NESTING}")
    if "*" not in text:
        return
    nodes = _count(yaml.compose(text, Loader=yaml.SafeLoader), {}, ())
    if nodes > MOST_NODES:
        raise ValueError(f"its aliases stand for {nodes} values, more than {MOST_NODES}")


def _count(node: yaml.Node | None, counted: dict[Hashable, int], inside: tuple[int, ...]) -> int:
    """Return how many values a node stands for, each alias written out."""
    if id(node) in inside:
        raise ValueError("an alias stands for what contains it")
    if id(node) not in counted:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        counted[id(node)] = 1 + sum(_count(part, counted, (*inside, id(node))) for part in parts)
    return counted[id(node)]


def limit_yaml() -> None:
    """Let the parser refuse the same yaml, wherever it reads one: groups may stand in files of their own."""
    load = get_loader("yaml")
    if getattr(load, "limited", False):
        return

    def load_limited(text: str) -> Any:
        try:
            check_size(text)
        except (ValueError, RecursionError) as error:
            raise yaml.YAMLError(str(error)) from error
        return load(text)

    load_limited.limited = True
    set_loader("yaml", load_limited, (yaml.YAMLError,))
