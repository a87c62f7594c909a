"""Adapted states as files, and states that grow: more shots, another class.

A file is safetensors: the tensors, and in its metadata how they are put together, as JSON. It is data, never code: of
the types that it names only NamedTuples and dataclasses of this framework are made.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.api import AdaptedState

SCHEMA = "lightning_fewshot/state/1"
FRAMEWORK = "lightning_fewshot"
PLAIN = (str, int, float, bool, type(None))


def save_state(state: AdaptedState, path: str | Path) -> None:
    """Write what ``Model.adapt`` returned.

    Args:
        state: A state with its class names.
        path: The new file, ``.safetensors`` by custom.

    Raises:
        ValueError: The state holds something else than tensors, plain data and tuples of these.
        OSError: It cannot be written.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    structure = _taken_apart(state.state, tensors)
    content = {"schema": SCHEMA, "classes": json.dumps(list(state.classes)), "state": json.dumps(structure)}
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, str(path), metadata=content)


def load_state(path: str | Path, like: AdaptedState | type | None = None) -> AdaptedState:
    """Read what ``save_state`` wrote.

    Args:
        path: The file.
        like: A state, or the type of one: another type is refused. None: any state of this framework.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, of another version, or a state of another class; says which.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no state {path}")
    try:
        with safe_open(str(path), "pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dictionary
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no file of safetensors") from error
    if said.get("schema") != SCHEMA:
        raise ValueError(f"{path} is of schema {said.get('schema')!r}, but this version reads {SCHEMA!r}")
    try:
        state = _put_together(json.loads(said["state"]), tensors)
        classes = tuple(json.loads(said["classes"]))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no state: {error}") from error
    wanted = type(like.state) if isinstance(like, AdaptedState) else like
    if wanted is not None and type(state) is not wanted:
        raise ValueError(f"{path} is a {type(state).__name__}, but a {wanted.__name__} is needed")
    return AdaptedState(state, classes)


def merge_states(first: AdaptedState, second: AdaptedState) -> AdaptedState:
    """Return one state of the classes and shots of both: a class that both have gets the shots of both.

    Raises:
        ValueError: They are of different papers, or of one whose states cannot grow.
    """
    if type(first.state) is not type(second.state):
        names = [type(s.state).__name__ for s in (first, second)]
        raise ValueError(f"the states are {names[0]} and {names[1]}, but must be of one model")
    if not hasattr(first.state, "merged"):
        raise ValueError(f"a {type(first.state).__name__} cannot grow: adapt to all examples at once")
    classes = (*first.classes, *(name for name in second.classes if name not in first.classes))
    places = torch.tensor([classes.index(name) for name in second.classes])
    return AdaptedState(first.state.merged(second.state, places), classes)


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return plain data that says what a value is; its tensors are put aside."""
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, PLAIN):
        return {"plain": value}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = {name: _taken_apart(getattr(value, name), tensors) for name in value._fields}
        return {"type": _name_of(type(value)), "parts": parts}
    if is_dataclass(value):
        parts = {f.name: _taken_apart(getattr(value, f.name), tensors) for f in fields(value)}
        return {"type": _name_of(type(value)), "parts": parts}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_taken_apart(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[str(key), _taken_apart(item, tensors)] for key, item in value.items()]}
    raise ValueError(f"a state holds a {type(value).__name__}, which cannot be saved")


def _put_together(structure: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    kind, content = next(iter(structure.items()))
    if kind == "tensor":
        return tensors[content]
    if kind == "plain":
        return content
    if kind == "type":
        parts = {name: _put_together(part, tensors) for name, part in structure["parts"].items()}
        return _type_of(content)(**parts)
    if kind == "dict":
        return {key: _put_together(item, tensors) for key, item in content}
    made = [_put_together(item, tensors) for item in content]
    return made if kind == "list" else tuple(made)


def _name_of(cls: type) -> str:
    if cls.__module__.partition(".")[0] != FRAMEWORK:
        raise ValueError(f"a state holds a {cls.__module__}.{cls.__qualname__}, which is not of this framework")
    return f"{cls.__module__}.{cls.__qualname__}"


def _type_of(name: str) -> type:
    module_name, _, class_name = name.rpartition(".")
    if module_name.partition(".")[0] != FRAMEWORK:
        raise ValueError(f"the file names {name}, which is not of this framework")
    try:
        cls = getattr(importlib.import_module(module_name), class_name, None)
    except ImportError:
        cls = None
    if not isinstance(cls, type) or not (is_dataclass(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields"))):
        raise ValueError(f"the file names {name}, but there is no such state here")
    return cls
