"""A tiny Tiny-ImageNet in the real layout: photos of noise with a plain rectangle of the class's color at the box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NOVEL = ("n01629819", "n01641577", "n01644900", "n01742172", "n01774750", "n01855672")
OTHERS = tuple(f"n{9000000 + i:08d}" for i in range(12))


def color(number: int) -> tuple[int, int, int]:
    """A bright color, different for each class: red is always 255, which the noise never reaches."""
    return 255, 20 * (number % 12), 255 - 20 * (number % 12)


def make(folder: Path, photos: int = 8) -> Path:
    """Write ``tiny-imagenet-200`` into ``folder`` and return it."""
    rng = np.random.default_rng(0)
    root = folder / "tiny-imagenet-200"
    for number, wnid in enumerate((*NOVEL, *OTHERS)):
        images = root / "train" / wnid / "images"
        images.mkdir(parents=True)
        lines = []
        for i in range(photos):
            x1, y1 = rng.integers(4, 24, 2)
            x2, y2 = rng.integers(34, 60, 2)
            photo = rng.integers(60, 120, (64, 64, 3), dtype=np.uint8)
            photo[y1 : y2 + 1, x1 : x2 + 1] = color(number)
            Image.fromarray(photo).save(images / f"{wnid}_{i}.JPEG", quality=98, subsampling=0)
            lines.append(f"{wnid}_{i}.JPEG\t{x1}\t{y1}\t{x2}\t{y2}")
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("\n".join(lines) + "\n")
    (root / "words.txt").write_text("\n".join(f"{w}\tthing {w}, other word" for w in (*NOVEL, *OTHERS)))
    (root / "wnids.txt").write_text("\n".join((*NOVEL, *OTHERS)))
    return folder


def make_all(root: Path) -> None:
    """Make the layout that the experiments read."""
    make(root)
