"""Light colour augmentation of training photos. The only file that knows albumentations (its 2.0 line is the last)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np


def jitter_colours(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary brightness, contrast, hue, saturation and sharpness a little; a function of the generator alone.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        rng: Decides what happens.

    Returns:
        ``(H, W, 3)`` uint8, a new array. Nothing moves, so boxes and masks stay as they are.
    """
    seed = int(rng.integers(2**31))
    transform = _transform()
    transform.set_random_seed(seed)
    return transform(image=image)["image"]


@lru_cache(1)
def _transform() -> Any:
    import albumentations  # costs two seconds

    return albumentations.Compose(
        [
            albumentations.RandomBrightnessContrast(0.2, 0.2, p=0.5),
            albumentations.HueSaturationValue(8, 25, 10, p=0.4),
            albumentations.GaussianBlur(blur_limit=(3, 3), p=0.1),
            albumentations.ToGray(p=0.05),
        ]
    )
