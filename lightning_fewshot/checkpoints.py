"""A module from its checkpoint alone.

What a checkpoint says of itself is data, never code. Of the class that it names only a subclass of FewShotModule is
made, of settings only the groups that the class's own constructor asks for, and of optimisers only subclasses of
``torch.optim.Optimizer``. Nothing is imported because a file names it, except modules of this framework.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from lightning_fewshot.checkpoint_entry import KEY, SCHEMA
from lightning_fewshot.checkpoint_files import read_checkpoint
from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.settings import Optimization

FRAMEWORK = "lightning_fewshot"
DATA_PACKAGES = (FRAMEWORK, "datamodules")
PLAIN = (str, int, float, bool, type(None))


def build_module(path: str | Path) -> FewShotModule:
    """Return the module that a checkpoint is of, with its weights, in eval mode and on the CPU.

    Args:
        path: A checkpoint of ``fit``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or no checkpoint, of another version, of a class that does not exist here, or its
            weights do not fit; says which.
    """
    content = read_checkpoint(path)
    entry = entry_of(content, path)
    cls = named_class(entry["class_path"], FewShotModule, path)
    module = cls(**settings_of(cls, entry["init_args"], path))
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"])
    return module.eval()


def build_data(path: str | Path) -> EpisodicDataModule:
    """Return the data that a checkpoint was trained on, with the settings of its run.

    Args:
        path: A checkpoint of ``fit``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The checkpoint does not say, or names a class that is none of this framework's.
    """
    from jsonargparse import ArgumentParser

    data = (entry_of(read_checkpoint(path), path).get("run") or {}).get("data")
    if not isinstance(data, dict):
        raise ValueError(f"{path} does not say what data it was trained on")
    for class_path in _class_paths(data):
        named_class(class_path, object, path, DATA_PACKAGES)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(EpisodicDataModule, "data")
    return parser.instantiate_classes(parser.parse_object({"data": data})).data


def _class_paths(values: Any) -> list[str]:
    """Return every class that plain data names, however deep."""
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    named = [str(values["class_path"])] if isinstance(values, dict) and "class_path" in values else []
    return named + [path for value in inner for path in _class_paths(value)]


def entry_of(content: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself.

    Raises:
        ValueError: It says nothing, or in the words of another version.
    """
    entry = content.get(KEY)
    if not isinstance(entry, dict) or not isinstance(entry.get("schema"), str):
        raise ValueError(f"{path} does not say which model it is of: it is of an old version or another program")
    if entry["schema"] != SCHEMA:
        raise ValueError(f"{path} is of schema {entry['schema']!r}, but this version reads {SCHEMA!r}")
    if not isinstance(entry.get("class_path"), str) or not isinstance(entry.get("init_args"), dict):
        raise ValueError(f"{path} names no class with its settings")
    return entry


def named_class(class_path: str, base: type, path: str | Path, packages: tuple[str, ...] = (FRAMEWORK,)) -> type:
    """Return the class that a file names, if it is one of ``base`` in ``packages`` or in a module already imported.

    Raises:
        ValueError: There is no such class, it is of another kind, or its module would have to be imported.
    """
    module_name, _, name = class_path.rpartition(".")
    if module_name not in sys.modules and module_name.partition(".")[0] not in packages:
        option = "--model" if base is FewShotModule else "--data"
        raise ValueError(
            f"{path} is of the class {class_path}, which is not imported because a file names it: import it first, "
            f"or give it as {option} {class_path}"
        )
    try:
        cls = getattr(importlib.import_module(module_name), name, None)
    except ImportError:
        cls = None
    if not (inspect.isclass(cls) and issubclass(cls, base)) or inspect.isabstract(cls):
        raise ValueError(f"{path} is of the class {class_path}, but there is no such {base.__name__} here")
    return cls


def settings_of(cls: type, plain: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Return constructor arguments made of plain data: dictionaries become the groups that the constructor asks for.

    Raises:
        ValueError: A setting that the class does not have, or that is no plain data.
    """
    hints = _argument_hints(cls)
    unknown = sorted(set(plain) - set(hints))
    if unknown:
        raise ValueError(f"{path} has settings that {cls.__name__} does not have here: {', '.join(map(str, unknown))}")
    try:
        return {name: _from_plain(hints[name], value, name) for name, value in plain.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: settings of {cls.__name__}: {error}") from error


def _argument_hints(cls: type) -> dict[str, Any]:
    """Return the types of all constructor arguments, those that ``**kwargs`` passes on included."""
    hints: dict[str, Any] = {}
    for base in cls.__mro__:
        constructor = base.__dict__.get("__init__")
        if not inspect.isfunction(constructor):
            continue
        named = [p for p in inspect.signature(constructor).parameters.values() if p.name != "self"]
        types_here = get_type_hints(constructor)
        variadic = any(p.kind is p.VAR_KEYWORD for p in named)
        named = [p for p in named if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        hints = {p.name: types_here.get(p.name, Any) for p in named} | hints
        if not variadic:
            break
    return hints


def _from_plain(hint: Any, value: Any, name: str) -> Any:
    """Return plain data as what ``hint`` says: a settings group, a tuple, a collection of them, or itself."""
    if get_origin(hint) in (Union, types.UnionType):
        return _from_plain(_alternative(get_args(hint), value), value, name)
    if is_dataclass(hint) and isinstance(value, dict):
        return _group(hint, value, name)
    if get_origin(hint) is tuple and isinstance(value, list):
        inner = get_args(hint)
        kinds = [inner[0]] * len(value) if inner[-1:] == (...,) else inner
        return tuple(_from_plain(kind, item, name) for kind, item in zip(kinds, value, strict=True))
    if isinstance(value, list):
        kind = (get_args(hint) or (Any,))[0] if get_origin(hint) is list else Any
        return [_from_plain(kind, item, name) for item in value]
    if isinstance(value, dict):
        kind = get_args(hint)[1] if get_origin(hint) is dict else Any
        return {_plain(key, name): _from_plain(kind, item, name) for key, item in value.items()}
    return _plain(value, name)


def _plain(value: Any, name: str) -> Any:
    if not isinstance(value, PLAIN):
        raise ValueError(f"{name} is a {type(value).__name__}, but must be plain data")
    return value


def _alternative(hints: tuple[Any, ...], value: Any) -> Any:
    """Return the alternative of a union that a value is of: of groups the one that has all of its keys."""
    if isinstance(value, dict):
        groups = [hint for hint in hints if is_dataclass(hint) and set(value) <= set(get_type_hints(hint))]
        return next(iter(groups), next((hint for hint in hints if get_origin(hint) is dict), Any))
    if isinstance(value, list):
        return next((hint for hint in hints if get_origin(hint) in (tuple, list)), Any)
    return Any


def _group(group: type, value: dict[str, Any], name: str) -> Any:
    hints = get_type_hints(group)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise ValueError(f"{name} has no {', '.join(map(str, unknown))}")
    if group is Optimization:
        _check_optimizer(value.get("optimizer", ""), name)
    return group(**{key: _from_plain(hints[key], item, f"{name}.{key}") for key, item in value.items()})


def _check_optimizer(optimizer: Any, name: str) -> None:
    module_name = str(optimizer).rpartition(".")[0]
    if module_name and module_name not in sys.modules:
        raise ValueError(f"{name}.optimizer is {optimizer}, which is not imported because a file names it")
