"""Light augmentation of training photos. The only file that knows albumentations (its 2.0 line is the last)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np


def jitter_colors(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
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


def random_part(
    image: np.ndarray, labels: np.ndarray, wanted: int, least: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a random part out of a photo and its labels that shows a class about as much as the photo does.

    Args:
        image: ``(H, W, 3)``.
        labels: ``(H, W)``.
        wanted: The label that must stay: its share of the part is at least half of its share of the photo.
        least: The part's sides are at least this fraction of the photo's.
        rng: Decides where; after ten parts that show too little the photo stays whole.
    """
    height, width = labels.shape
    share = (labels == wanted).mean()
    for _ in range(10):
        scale = rng.uniform(least, 1)
        h, w = max(1, round(scale * height)), max(1, round(scale * width))
        y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
        part = labels[y : y + h, x : x + w]
        found = (part == wanted).mean()
        if found > 0 and 2 * found >= share:
            return image[y : y + h, x : x + w], part
    return image, labels


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
