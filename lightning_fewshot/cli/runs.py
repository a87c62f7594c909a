"""Run folders as ``table`` and ``report`` read them: ``results.json``, ``config.yaml``, and what is not whole.

No torch here: reading ten thousand runs must not cost its import.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fewshot.cli.records import SCHEMA, SCORES_SCHEMA, problem_of, problem_of_scores
from lightning_fewshot.text import read_json, read_text

MARKS = ("results.json", "config.yaml", "metrics.csv")  # any of them makes a folder a run folder
INSIDE = {"wandb", "checkpoints", "pictures", "tracks", "masks", "submitit"}  # folders of a run, not runs
LARGEST_CONFIG = 1_000_000  # bytes
MISSING = object()


@dataclass(frozen=True)
class Run:
    """One finished evaluation.

    Args:
        name: Its folder, relative to where it was looked for; no two runs of one call share it.
        folder: Its folder.
        record: Content of ``results.json``.
        config: Content of ``config.yaml``; empty where there is none.
        time: When the results were written, in seconds since 1970.
    """

    name: str
    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]
    time: float

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """``{metric: {"value", "ci95", "n"}}``."""
        return self.record["metrics"]

    @property
    def data(self) -> str:
        """The data that was evaluated on: a test set of its own, or those of the training."""
        return self.record["protocol"].get("test_set") or self.record["data"]

    @property
    def command(self) -> str:
        """The command of the run; where none was kept, the one that repeats it from its config."""
        if kept := self.record.get("command"):
            return kept if isinstance(kept, str) else " ".join(kept)
        if (path := self.folder / "command.txt").is_file():
            return path.read_text().strip()
        verb = "test" if self.config.get("ckpt_path") else "fit"
        return f"python -m lightning_fewshot {verb} --config {self.folder / 'config.yaml'}"

    def episodes(self, metric: str) -> dict[str, float]:
        """Return a metric by episode, or by sequence of a tracker; empty where the results do not hold it.

        Read from the optional field ``per_episode`` of the results, ``{metric: {episode: value}}``.
        """
        values = (self.record.get("per_episode") or {}).get(metric) or {}
        return {str(episode): value for episode, value in values.items() if value is not None}

    @property
    def seed(self) -> tuple[str, ...]:
        """What tells repetitions of one experiment apart: the seeds, and of a test the weights."""
        weights = self.record["protocol"].get("weights_sha256") if self.config.get("ckpt_path") else None
        seeds = (self.look_up("config.seed_everything", None), self.record["protocol"].get("seed"))
        return tuple(map(repr, (*seeds, weights)))  # a file may hold anything there

    def look_up(self, key: str, default: Any = MISSING) -> Any:
        """Return a field by the name that a paper file or ``--where`` gives it.

        ``model`` and ``experiment`` are fields of the record, ``data`` what was evaluated on; ``model.<key>`` and
        ``data.<key>`` arguments in the config; ``config.<key>`` any other key of it; all else fields of the protocol,
        such as ``k_shot``.
        """
        first, _, rest = key.partition(".")
        if key == "data":
            return self.data
        if not rest:
            place = self.record if key in ("model", "experiment") else self.record["protocol"]
            return place.get(key, default)
        if first == "config":
            return _descend(self.config, rest, default)
        return _descend(self.config, f"{first}.init_args.{rest}", default)


@dataclass
class Runs:
    """What was found.

    Args:
        found: The finished runs, by name.
        problems: What was left out, and why: one sentence each.
    """

    found: list[Run] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_runs(roots: list[Path]) -> Runs:
    """Read every run below some folders; links are not followed, and a folder that is given twice counts once.

    Raises:
        FileNotFoundError: One of the folders does not exist.
    """
    runs, seen, names = Runs(), set(), set()
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"there is no folder {root}")
        for folder in _run_folders(root):
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            for tracker, record in _records(folder, runs.problems):
                name = _unused("/".join(filter(None, (_name(folder, root), tracker))), root, names)
                names.add(name)
                runs.found.append(_run(name, folder, record, runs.problems))
    runs.found.sort(key=lambda run: run.name)
    return runs


def _run_folders(root: Path) -> list[Path]:
    folders = []
    for place, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in INSIDE and not name.startswith("."))
        if any(mark in files for mark in MARKS):
            folders.append(Path(place))
    return folders


def _name(folder: Path, root: Path) -> str:
    relative = folder.relative_to(root)
    return (root.resolve().name if relative == Path() else relative.as_posix()) or "."


def _unused(name: str, root: Path, names: set[str]) -> str:
    """Tell two runs of one name apart by the folder that they were found in, or by a number."""
    candidates = [name, f"{root.as_posix()}/{name}"]
    candidates += [f"{name} ({number})" for number in range(2, len(names) + 3)]
    return next(candidate for candidate in candidates if candidate not in names)


def _records(folder: Path, problems: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the records of a folder with what their names add to the folder's: one, or one a tracker of `score`."""
    path = folder / "results.json"
    if not path.is_file():
        problems.append(f"{folder} has no results.json: the run was killed, or still runs")
        return []
    try:
        record = read_json(path)
    except ValueError:
        problems.append(f"{path} is cut off or not JSON")
        return []
    of_scores = isinstance(record, dict) and record.get("schema") == SCORES_SCHEMA
    if problem := problem_of_scores(record) if of_scores else problem_of(record):
        problems.append(f"{path} {problem}")
        return []
    if of_scores:
        return [(name, _scored(name, tracker, record)) for name, tracker in record["trackers"].items()]
    return [("", record)]


def _run(name: str, folder: Path, record: dict[str, Any], problems: list[str]) -> Run:
    time = (folder / "results.json").stat().st_mtime
    return Run(name=name, folder=folder, record=record, config=_config(folder, problems), time=time)


def _scored(name: str, tracker: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return one tracker of `score` as a record like that of a test."""
    protocol = {"split": "test", **record["protocol"]}
    sequences = tracker.get("sequences") or {}
    metrics = {metric for values in sequences.values() for metric in values}
    by_metric = {m: {name: values[m] for name, values in sequences.items() if m in values} for m in metrics}
    base = {"schema": SCHEMA, "experiment": "score", "model": name, "data": protocol["benchmark"]}
    return base | {"protocol": protocol, "metrics": tracker["metrics"], "per_episode": by_metric}


def _config(folder: Path, problems: list[str]) -> dict[str, Any]:
    import yaml

    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    try:
        text = read_text(path, LARGEST_CONFIG)
        config = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError):
        problems.append(f"{path} is cut off or not YAML; its run counts without its settings")
        return {}
    return config if isinstance(config, dict) else {}


def _descend(place: Any, key: str, default: Any) -> Any:
    for part in key.split("."):
        if not isinstance(place, dict) or part not in place:
            return default
        place = place[part]
    return place
