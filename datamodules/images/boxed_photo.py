"""A photo file with boxes: what every reader of detection annotations returns."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Photo(NamedTuple):
    """One annotated image file.

    Args:
        name: What it is called in episode lists and results; unique in the data set.
        path: The file.
        boxes: ``(M, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels.
        classes: Class of each box.
        size: (width, height) to which the boxes refer; None: the file's own.
        evaluation_only: Never used in training.
    """

    name: str
    path: Path
    boxes: np.ndarray
    classes: tuple[str, ...]
    size: tuple[int, int] | None = None
    evaluation_only: bool = False
