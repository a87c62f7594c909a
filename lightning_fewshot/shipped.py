"""Trained weights that come with the package: small checkpoints under ``weights/``, each with a card beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from lightning_fewshot.checkpoint_entry import KEY, Described
from lightning_fewshot.checkpoint_files import read_checkpoint, write_checkpoint

FOLDER = Path(__file__).parent / "weights"
KEPT = ("state_dict", KEY, "epoch", "global_step", "pytorch-lightning_version")


def find_shipped(module: Described, folder: Path | None = None) -> Path | None:
    """Return the checkpoint that comes with the package for a module of this class and these sizes, if there is one."""
    here = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for path in sorted((folder or FOLDER).glob("*.ckpt")):
        content = read_checkpoint(path)
        saved = {name: tuple(value.shape) for name, value in content["state_dict"].items()}
        name = content.get(KEY, {}).get("class_path", "").rpartition(".")[2]
        if name == type(module).__name__ and saved == here:
            return path
    return None


def load_shipped(module: nn.Module, folder: Path | None = None) -> Path | None:
    """Load the weights that come with the package into a module; return where they are from, or None."""
    path = find_shipped(module, folder)
    if path is not None:
        module.load_state_dict(read_checkpoint(path)["state_dict"])
    return path


def write_half(content: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint to use, not to train on: weights in half precision, no state of the optimiser.

    Args:
        content: What a checkpoint of ``fit`` holds.
        path: The new file.

    Raises:
        OSError: It cannot be written.
    """
    kept = {key: content[key] for key in KEPT if key in content}
    weights = {n: v.half() if v.is_floating_point() else v for n, v in content["state_dict"].items()}
    write_checkpoint({**kept, "state_dict": weights}, path)
