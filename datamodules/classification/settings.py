"""Settings of image classification: how images are shown, and which classes and images are in which split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ImageSettings:
    """How images are shown.

    Args:
        size: Side of the square that a network sees, in pixels, at least 8.
        margin: An image's shorter side is scaled to ``size`` times one plus this, at least 0; evaluation cuts the
            middle, training a random square.
        mirror: Mirror half of the training images.
        color: Vary the color of training images a little.
        cache_mb: Images are decoded once and kept, where all of them need no more than this; 0 keeps none.
    """

    size: int = 224
    margin: float = 0.125
    mirror: bool = True
    color: bool = False
    cache_mb: int = 2048

    def __post_init__(self) -> None:
        for name, least in {"size": 8, "margin": 0, "cache_mb": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"images.{name} is {getattr(self, name)} but must be at least {least}")

    @property
    def stored_size(self) -> int:
        """Side of the square that is kept of an image, in pixels."""
        return round(self.size * (1 + self.margin))


@dataclass(frozen=True)
class ClassSplits:
    """Which classes and images train, validate and test; what a data set's own split says comes first.

    Args:
        evaluated: "novel": classes of train, val and test are disjoint, evaluated in episodes; "closed": all classes
            train, and other images of them are classified (table 1 of RepMet).
        val_classes: Validation classes of "novel", drawn by the data's seed, at least 1.
        test_classes: Test classes of "novel", likewise; or their names.
        val_images: Fraction of a class's images for validation of "closed", in [0, 1).
        test_images: Fraction for its test, likewise.
    """

    evaluated: Literal["novel", "closed"] = "novel"
    val_classes: int = 10
    test_classes: int | tuple[str, ...] = 50
    val_images: float = 0.1
    test_images: float = 0.3

    def __post_init__(self) -> None:
        if self.evaluated not in ("novel", "closed"):
            raise ValueError(f"splits.evaluated is {self.evaluated!r} but must be 'novel' or 'closed'")
        if self.val_classes < 1:
            raise ValueError(f"splits.val_classes is {self.val_classes} but must be at least 1")
        if isinstance(self.test_classes, int) and self.test_classes < 1:
            raise ValueError(f"splits.test_classes is {self.test_classes} but must be at least 1")
        if not isinstance(self.test_classes, int):
            object.__setattr__(self, "test_classes", tuple(self.test_classes))
        for name in ("val_images", "test_images"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"splits.{name} is {getattr(self, name)} but must be at least 0 and below 1")
        if self.val_images + self.test_images >= 1:
            raise ValueError(f"val_images + test_images is {self.val_images + self.test_images} but must be below 1")
