"""Images as squares of one size, decoded once and kept as uint8 where they fit in memory.

Shapes: n images, S side of a stored square.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch import Tensor

THREADS = 4
MB = 2**20


class ImageStore:
    """Squares of n images, filled when an image is first asked for, and shared with worker processes.

    Args:
        read: Returns image i as ``(H, W, 3)`` uint8 RGB.
        count: n.
        side: S, in pixels.
        cache_mb: Keep the images where all need no more than this many MiB; else each is read anew.
    """

    def __init__(self, read: Callable[[int], np.ndarray], count: int, side: int, cache_mb: int) -> None:
        self.read = read
        self.side = side
        self.kept = count * 3 * side * side <= cache_mb * MB
        self.images = torch.empty((count if self.kept else 0, 3, side, side), dtype=torch.uint8).share_memory_()
        self.filled = torch.zeros(count, dtype=torch.bool).share_memory_()

    def __getitem__(self, number: int) -> Tensor:
        """Return image ``number``, ``(3, S, S)`` uint8."""
        if not self.kept:
            return self._square(number)
        if not self.filled[number]:
            self.images[number] = self._square(number)
            self.filled[number] = True
        return self.images[number]

    def fill(self, numbers: Sequence[int]) -> dict[int, str]:
        """Decode images in threads; return what was wrong with those that cannot be."""

        def error_of(number: int) -> str:
            try:
                self[number]
            except (ValueError, FileNotFoundError) as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(THREADS) as pool:
            errors = list(pool.map(error_of, numbers))
        return {number: error for number, error in zip(numbers, errors, strict=True) if error}

    def _square(self, number: int) -> Tensor:
        return torch.from_numpy(middle_square(self.read(number), self.side)).permute(2, 0, 1).contiguous()


def middle_square(image: np.ndarray, side: int) -> np.ndarray:
    """Scale the shorter side of ``(H, W, 3)`` to ``side`` and cut the middle square.

    >>> middle_square(np.zeros((20, 40, 3), np.uint8), 10).shape
    (10, 10, 3)
    """
    height, width = image.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = image[top : top + short, left : left + short]
    if short == side:
        return np.ascontiguousarray(square)
    return cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA if short > side else cv2.INTER_LINEAR)
