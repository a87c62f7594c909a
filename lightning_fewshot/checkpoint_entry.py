"""What a checkpoint says of itself, and what is checked before its weights are taken or written.

Beside Lightning's entries a checkpoint holds ``"few_shot"``: the class, its settings and the names of its training
classes, all plain data, so that ``torch.load(weights_only=True)`` reads it and a checkpoint alone is enough to use a
model. Settings from a checkpoint are data: only subclasses of FewShotModule and their settings groups are made of them.
"""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from types import FrameType
from typing import Any, Protocol

import torch

KEY = "few_shot"
SCHEMA = "lightning_fewshot/checkpoint/1"


class Described(Protocol):
    """A module that keeps how it was made: every FewShotModule."""

    init_args: dict[str, Any]
    classes: tuple[str, ...] | None

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name."""


def constructor_arguments(module: object, frame: FrameType | None) -> dict[str, Any]:
    """Return the arguments with which ``module`` is being made, by name, defaults included.

    Args:
        module: An object whose constructor is running.
        frame: That of one of its ``__init__``; the outermost one is the object's own class's.
    """
    outermost = frame
    while frame is not None and frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is module:
        outermost, frame = frame, frame.f_back
    names, _, variadic, values = inspect.getargvalues(outermost)
    named = {name: values[name] for name in names if name != "self"}
    return named | (values[variadic] if variadic else {})


def as_plain(value: Any) -> Any:
    """Return settings as plain data: groups become dictionaries, tuples lists."""
    if is_dataclass(value):
        return {f.name: as_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value


def description(module: Described) -> dict[str, Any]:
    """Return what a checkpoint says of the model that it belongs to."""
    cls = type(module)
    return {
        "schema": SCHEMA,
        "class_path": f"{cls.__module__}.{cls.__qualname__}",
        "init_args": as_plain(module.init_args),
        "classes": list(module.classes) if module.classes is not None else None,
    }


def check_fits(module: Described, state_dict: dict[str, Any]) -> None:
    """Refuse weights of another model, or of other sizes, and name what differs.

    Raises:
        ValueError: Names the first parameters that differ, with both shapes.
    """
    saved = {name: tuple(value.shape) for name, value in state_dict.items()}
    here = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    differing = [name for name in sorted({*saved, *here}) if saved.get(name) != here.get(name)]
    if differing:
        lines = [f"{n}: {saved.get(n, 'absent')} in the file, {here.get(n, 'absent')} here" for n in differing[:3]]
        raise ValueError(
            f"the checkpoint does not fit this {type(module).__name__}: {len(differing)} parameters differ "
            f"({'; '.join(lines)}). Use the config.yaml that stands beside the checkpoint's folder."
        )


def check_finite(state_dict: dict[str, Any], step: int, advice: str) -> None:
    """Refuse weights that are no numbers any more, so that every checkpoint on disk is a good one.

    Raises:
        FloatingPointError: Names the first parameter that is not finite.
    """
    for name, value in state_dict.items():
        if not torch.isfinite(value).all():
            raise FloatingPointError(f"{name} is not finite after step {step}. {advice}")
