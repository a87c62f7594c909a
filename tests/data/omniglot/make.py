"""Write a tiny Omniglot in the official layout: 105 x 105, 1-bit PNG, black ink on white; zips and Lake's runs too."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

ALPHABETS = {"images_background": ("Alpha", "Beta", "Gamma"), "images_evaluation": ("Delta", "Epsilon")}


def make(root: Path, characters: int = 5, drawings: int = 4, side: int = 105, runs: int = 2) -> Path:
    """Write the data set; a character is a bar at its own angle, a drawer shifts it."""
    number = 0
    for folder, alphabets in ALPHABETS.items():
        for alphabet in alphabets:
            for c in range(characters):
                number += 1
                for d in range(drawings):
                    path = root / folder / alphabet / f"character{c + 1:02d}" / f"{number:04d}_{d + 1:02d}.png"
                    write(path, draw(number, d, side))
    for r in range(runs):
        _make_run(root / "one-shot-classification" / f"run{r + 1:02d}", characters, side)
    return root


def draw(character: int, drawer: int, side: int = 105) -> np.ndarray:
    """Return ``(side, side)`` bool, True where there is paper."""
    angle, shift = 0.37 * character, 0.02 * side * drawer
    rows, columns = np.mgrid[:side, :side] - side / 2 - shift
    return np.abs(rows * np.cos(angle) + columns * np.sin(angle)) > 0.03 * side


def write(path: Path, paper: np.ndarray) -> None:
    """Write a 1-bit picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(paper).save(path)


def zip_folder(root: Path, name: str) -> Path:
    """Replace a folder by its zip, as the owner offers it."""
    made = shutil.make_archive(str(root / name), "zip", root, name)
    shutil.rmtree(root / name)
    return Path(made)


def _make_run(run: Path, count: int, side: int) -> None:
    lines = []
    for c in range(count):
        match = (c * 2 + 1) % count
        write(run / "training" / f"class{c + 1:02d}.png", draw(c, 0, side))
        write(run / "test" / f"item{c + 1:02d}.png", draw(match, 1, side))
        lines.append(f"{run.name}/test/item{c + 1:02d}.png {run.name}/training/class{match + 1:02d}.png")
    (run / "class_labels.txt").write_text("\n".join(lines) + "\n")


def make_all(root: Path) -> None:
    """Make the layout that the experiments read."""
    make(root / "omniglot")
