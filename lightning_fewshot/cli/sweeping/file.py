"""A W&B sweep file, checked: what ``wandb sweep`` takes and ``wandb agent`` runs, for a runner without an account."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fewshot.cli.sweeping.parameters import Parameter, read_parameter
from lightning_fewshot.text import read_yaml

METHODS = ("grid", "random", "bayes")
KEYS = {"program", "command", "method", "metric", "parameters", "run_cap", "name", "description", "project", "entity"}
SERVER_KEYS = {"early_terminate", "controller", "settings", "job", "image_uri"}  # only W&B's server carries them out
METRIC_KEYS = {"name", "goal", "target"}
MOST_CELLS = 100_000  # of a grid
LONGEST_NAME = 120  # file systems take 255 bytes


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file.

    Args:
        path: The file.
        method: grid, random or bayes.
        command: The words of the command with their macros, or None for W&B's own default.
        program: What ``${program}`` stands for.
        parameters: In the order of the file.
        metric: Name of the metric, ``test/map_50``, or None.
        maximize: Whether a larger metric is better.
        run_cap: Cells at most, over all processes, or None.
    """

    path: Path
    method: str
    command: tuple[str, ...] | None
    program: str
    parameters: tuple[Parameter, ...]
    metric: str | None
    maximize: bool
    run_cap: int | None

    @property
    def name(self) -> str:
        """Name of the sweep: that of its file."""
        return self.path.stem

    def cells(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of each cell of a grid, the last parameter changing fastest."""
        names = [parameter.name for parameter in self.parameters]
        for values in itertools.product(*(parameter.grid() or [] for parameter in self.parameters)):
            yield dict(zip(names, values, strict=True))

    def size(self) -> float:
        """Return the number of different cells; infinity where a parameter is continuous."""
        return math.prod(parameter.count for parameter in self.parameters)

    def cell_name(self, values: dict[str, Any]) -> str:
        """Return the folder name of a cell: ``k_shot=1,seed_everything=0``; the same cell has the same name always."""
        varied = [parameter.name for parameter in self.parameters if parameter.varied] or list(values)[:1]
        return _folder_name({_short(name, varied): values[name] for name in varied})


def read_sweep(path: str | Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        ValueError: What is wrong with which key of which file.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no sweep file {path}")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__} but must be a mapping with method and parameters")
    _check_keys(content, path)
    return _sweep(content, path)


def _check_keys(content: dict[str, Any], path: Path) -> None:
    for key in sorted(content, key=str):
        if key in SERVER_KEYS:
            raise ValueError(
                f"{path}: the key {key!r} is carried out by W&B's server only; use wandb agent, or remove it"
            )
        if key not in KEYS:
            raise ValueError(f"{path}: unknown key {key!r}; known: {sorted(KEYS)}")
    for key in ("method", "parameters"):
        if not content.get(key):
            raise ValueError(f"{path}: the key {key!r} is missing")
    if content["method"] not in METHODS:
        raise ValueError(f"{path}: method is {content['method']!r} but must be one of {list(METHODS)}")


def _sweep(content: dict[str, Any], path: Path) -> Sweep:
    metric = _metric(content.get("metric"), path)
    command = content.get("command")
    _check_kinds(content, path)
    sweep = Sweep(
        path=path,
        method=content["method"],
        command=tuple(str(word) for word in command) if command else None,
        program=str(content.get("program") or ""),
        parameters=tuple(read_parameter(name, entry, str(path)) for name, entry in content["parameters"].items()),
        metric=metric.get("name"),
        maximize=metric.get("goal", "minimize") == "maximize",
        run_cap=content.get("run_cap"),
    )
    _check_method(sweep)
    return sweep


def _check_kinds(content: dict[str, Any], path: Path) -> None:
    """Refuse values of another kind than their keys have."""
    command, run_cap = content.get("command") or [], content.get("run_cap")
    if not isinstance(command, list) or not all(isinstance(word, (str, int, float)) for word in command):
        raise ValueError(f"{path}: command is {str(command)[:80]!r} but must be a list of words")
    if not isinstance(content["parameters"], dict):
        raise ValueError(f"{path}: parameters is {str(content['parameters'])[:80]!r} but must be a mapping")
    if any("\0" in word for word in map(str, [*command, content.get("program"), *content["parameters"]])):
        raise ValueError(f"{path}: command, program or a parameter's name has a zero byte, which no command takes")
    if run_cap is not None and (not isinstance(run_cap, int) or isinstance(run_cap, bool) or run_cap < 1):
        raise ValueError(f"{path}: run_cap is {str(run_cap)[:80]} but must be a whole number of at least 1")


def _metric(metric: Any, path: Path) -> dict[str, Any]:
    metric = metric or {}
    if not isinstance(metric, dict) or not isinstance(metric.get("name", ""), str):
        raise ValueError(f"{path}: metric is {str(metric)[:80]!r} but must be a mapping with the text name, and goal")
    unknown = sorted(set(metric) - METRIC_KEYS, key=str)
    if unknown:
        raise ValueError(f"{path}: metric has the unknown key {unknown[0]!r}; known: {sorted(METRIC_KEYS)}")
    if metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise ValueError(f"{path}: metric.goal is {metric['goal']!r} but must be minimize or maximize")
    return metric


def _check_method(sweep: Sweep) -> None:
    if sweep.method == "bayes" and not sweep.metric:
        raise ValueError(f"{sweep.path}: method is bayes but metric.name is missing")
    for parameter in sweep.parameters if sweep.method == "grid" else ():
        if parameter.count == math.inf:
            raise ValueError(f"{sweep.path}: method is grid but parameters.{parameter.name} has no list of values")
    if sweep.method == "grid" and sweep.size() > MOST_CELLS:
        raise ValueError(f"{sweep.path}: the grid has {sweep.size():.6g} cells but {MOST_CELLS} are the most")
    for parameter in sweep.parameters if sweep.method != "random" else ():
        if parameter.probabilities:
            raise ValueError(f"{sweep.path}: parameters.{parameter.name} has probabilities, which only random draws by")


def _short(name: str, names: list[str]) -> str:
    """Return the last part of a dotted key, or the whole key where another one ends alike."""
    last = name.rpartition(".")[2]
    alike = [other for other in names if other.rpartition(".")[2] == last]
    return last if len(alike) == 1 else name


def _folder_name(values: dict[str, Any]) -> str:
    """Spell values as a folder name; a digest marks a name that had to lose something.

    >>> _folder_name({"k_shot": 1, "lr": None})
    'k_shot=1,lr=null'
    >>> _folder_name({"finetuning": "{steps: 2}"})
    'finetuning=steps-2-f823a6bd'
    """
    text = ",".join(f"{name}={'null' if value is None else value}" for name, value in values.items())
    short = re.sub(r"\bexperiments/|\.yaml\b|[{}\[\]\"' ]", "", text)
    safe = re.sub(r"[^A-Za-z0-9_.=,+-]+", "-", short)[:LONGEST_NAME]
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
