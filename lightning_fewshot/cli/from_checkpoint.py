"""A checkpoint is enough: the model, its settings and the data come from it where nobody names others."""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from lightning_fewshot.checkpoint_files import read_checkpoint
from lightning_fewshot.checkpoints import DATA_PACKAGES, entry_of, named_class, settings_of
from lightning_fewshot.cli.request import Request
from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.module import FewShotModule

KEYWORDS = ("best", "last", "hpc")  # Lightning's own words for a checkpoint
NOT_SAID = ("data.init_args.num_workers",)  # changes nothing but the time


class Resumed(NamedTuple):
    """What is known of the checkpoint that a command is given.

    Args:
        args: Further arguments: the model and the data, where the command names none.
        step: Training steps of the checkpoint.
        settings: Model, data and seed of its run, as flat plain data; empty where it does not say.
        experiment: Name of its run.
    """

    args: list[str]
    step: int
    settings: dict[str, Any]
    experiment: str | None


def read_resumed(request: Request) -> Resumed | None:
    """Look at the checkpoint of a command, if it is given one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none, or cannot say what it is of where nobody else does.
    """
    path = request.checkpoint
    if not path or path in KEYWORDS:
        return None
    content = read_checkpoint(path)
    entry = entry_of(content, path) if request.class_of("model") is None else content.get("few_shot", {})
    run = entry.get("run") or {}
    args = []
    if request.class_of("model") is None:
        cls = named_class(entry["class_path"], FewShotModule, path)
        settings_of(cls, entry["init_args"], path)  # plain data that the class takes, before any of it is used
        args.append(_argument("model", entry["class_path"], entry["init_args"]))
    data = run.get("data")
    if request.class_of("data") is None and isinstance(data, dict) and isinstance(data.get("class_path"), str):
        cls = named_class(data["class_path"], EpisodicDataModule, path, DATA_PACKAGES)
        settings_of(cls, data.get("init_args") or {}, path)
        args.append(_argument("data", data["class_path"], data.get("init_args") or {}))
    model = {"class_path": entry.get("class_path"), "init_args": entry.get("init_args")}
    settings = {"seed_everything": run.get("seed"), "data": data, "model": model} if run else {}
    return Resumed(args, int(content.get("global_step", 0)), flat(settings), run.get("experiment"))


def _argument(group: str, class_path: str, settings: dict[str, Any]) -> str:
    value = yaml.safe_dump({"class_path": class_path, "init_args": settings}, default_flow_style=True, width=2**31)
    return f"--{group}={value.strip()}"


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what a resumed run changes, one line a key; classes are compared by their last name.

    >>> differences({"data.init_args.n_way": 5}, {"data.init_args.n_way": 3})
    ['data.n_way 5 -> 3']
    >>> differences({"data.class_path": "datamodules.CUB"}, {"data.class_path": "datamodules.Flowers102"})
    ['data.class_path CUB -> Flowers102']
    """
    lines = []
    for key in sorted({*before, *now} - set(NOT_SAID)):
        old, new = before.get(key), now.get(key)
        if key.endswith("class_path"):
            old, new = (str(value).rpartition(".")[2] for value in (old, new))
        if old != new:
            lines.append(f"{key.replace('.init_args', '')} {old} -> {new}")
    return lines


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested groups with dotted keys.

    >>> flat({"data": {"init_args": {"n_way": 5}}})
    {'data.init_args.n_way': 5}
    """
    if not isinstance(values, dict) or not values:
        return {prefix: values} if prefix else {}
    return {k: v for key, item in values.items() for k, v in flat(item, f"{prefix}.{key}" if prefix else key).items()}
