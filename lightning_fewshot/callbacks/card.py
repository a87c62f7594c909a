"""The model card beside a checkpoint: what it is of, what it was trained on, and what was measured."""

from __future__ import annotations

import inspect
import shlex
import sys
from pathlib import Path
from typing import Any

from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.files import write_atomically
from lightning_fewshot.module import FewShotModule

PROGRAM = "python -m lightning_fewshot"
NOT_KNOWN = "not known: see the source of the data"


def write_card(record: dict[str, Any], module: FewShotModule, data: EpisodicDataModule, folder: Path) -> Path:
    """Write ``card.md``.

    Args:
        record: What ``results.json`` holds.
        module: Whose card it is.
        data: What it was measured on.
        folder: That of the run's checkpoints; of a run that has none its own.

    Raises:
        OSError: It cannot be written.
    """
    write_atomically(folder / "card.md", card_text(record, paper_of(type(module)), data))
    return folder / "card.md"


def card_text(record: dict[str, Any], paper: str, data: EpisodicDataModule) -> str:
    """Return the card as Markdown."""
    protocol = record["protocol"]
    said = {
        "Paper": paper,
        "Data": f"{record['data']}: {first_line(type(data))}",
        "Licence of the data": getattr(data, "data_license", None) or NOT_KNOWN,
        "Training steps": record["step"],
        "Command": f"`{record['command']}`",
        "Commit": record["commit"] or "not a checkout",
        "Device": record["device"],
        "Version": f"lightning_fewshot {record['versions']['lightning_fewshot']}, torch {record['versions']['torch']}",
    }
    lines = [f"# {record['model']}", "", *(f"- **{name}:** {value}" for name, value in said.items()), ""]
    lines += [f"## Measured: split {protocol['split']}", ""]
    lines += [", ".join(f"{name} {value}" for name, value in protocol.items() if value is not None), ""]
    lines += ["| metric | value | 95 % interval | n |", "|---|---|---|---|"]
    lines += [_row(name, metric) for name, metric in record["metrics"].items()]
    return "\n".join([*lines, ""])


def paper_of(cls: type) -> str:
    """Return the title of the README of a class's paper; of other classes what they say of themselves."""
    file = inspect.getsourcefile(cls)
    folders = [] if file is None else [f for f in Path(file).parents if f.parent.name == "models"]
    readmes = [folder / "README.md" for folder in folders if (folder / "README.md").is_file()]
    return readmes[0].read_text().splitlines()[0].lstrip("# ") if readmes else first_line(cls)


def first_line(cls: type) -> str:
    """Return the first line of a class's docstring."""
    return (inspect.getdoc(cls) or cls.__name__).splitlines()[0]


def command() -> str:
    """Return the command that runs, as it can be typed."""
    return f"{PROGRAM} {shlex.join(sys.argv[1:])}".strip()


def _row(name: str, metric: dict[str, Any]) -> str:
    value, low, high = ("-" if v is None else f"{v:.4f}" for v in (metric["value"], *metric["ci95"]))
    return f"| {name} | {value} | {low} to {high} | {metric['n']} |"
