"""Which command trains a model, to say so where trained weights are missing."""

from __future__ import annotations

from pathlib import Path

import yaml

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
NOT_KNOWN = "<experiment>"


def training_command(model: str) -> tuple[str, str]:
    """Return the command that trains a model, and the checkpoint that it leaves.

    Args:
        model: Name of the class.

    >>> training_command("RepMetDetector")[0]
    'python -m lightning_fewshot fit --config experiments/repmet.yaml'
    """
    found = [path for path in _by_depth() if _trains(path, model)]
    words = found[0].relative_to(EXPERIMENTS).with_suffix("").parts if found else (NOT_KNOWN,)
    return (
        f"python -m lightning_fewshot fit --config experiments/{'/'.join(words)}.yaml",
        f"runs/{'-'.join(words)}/latest/checkpoints/best.ckpt",
    )


def _by_depth() -> list[Path]:
    """Return the experiments, main runs first."""
    return sorted(EXPERIMENTS.rglob("*.yaml"), key=lambda path: (len(path.parts), path))


def _trains(path: Path, model: str) -> bool:
    content = yaml.safe_load(path.read_text()) or {}
    named = content.get("model") if {"data", "trainer"} <= set(content) else None
    return isinstance(named, dict) and str(named.get("class_path", "")).rpartition(".")[2] == model
