"""Settings of photos with class masks: which classes are novel, how photos are scaled, how pixels count.

OSLSM (Shaban et al., BMVC 2017), sections 4.3 and 5, is where the defaults come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datamodules.images.catalog import PhotoSplits

N_FOLDS = 4


@dataclass(frozen=True)
class FoldSplits(PhotoSplits):
    """Which classes and photos train, validate and test; the novel classes are a fold.

    Args:
        fold: Which fold of the classes is kept for testing, from 0 to 3, where ``novel_classes`` names none.
    """

    fold: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.fold < N_FOLDS:
            raise ValueError(f"fold is {self.fold} but must be 0 to {N_FOLDS - 1}")


@dataclass(frozen=True)
class MaskedImages:
    """How photos with masks are scaled, and augmented in training.

    Args:
        size: Side of the square that photos are scaled to (under the convention "later" only those of the support and
            of training), in pixels; None: their own size.
        crop: Training photos are cropped to a random part whose sides are at least this fraction of theirs, and scaled
            to ``size``; 1 keeps them whole, as in the paper.
        mirror: Mirror training photos with probability one half.
        color: Color augmentation in training.
    """

    size: int | None = 500
    crop: float = 1.0
    mirror: bool = True
    color: bool = True

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is {self.size} pixels but must be at least 1, or null")
        if not 0 < self.crop <= 1:
            raise ValueError(
                f"crop is {self.crop} but must be above 0 and at most 1: the least fraction of a photo's sides"
            )


@dataclass(frozen=True)
class MaskRules:
    """Which classes are asked for, and how pixels count.

    Args:
        convention: "paper": photos and masks are scaled and measured so, void pixels are background. "later": query
            photos and masks keep their size, and void pixels do not count.
        min_pixels: A class is asked for where it covers as many pixels at least; 2048 are two cells of stride 32, near
            what the authors' code asks for.
        train_shots: Support photos of a training pair; the paper trains on one, whatever ``k_shot``.
        untrained: What pixels of the other classes are in training: "background", as in the paper, or "void", which
            does not count. Where nearly every photo shows the novel classes (roads in street scenes), "background"
            teaches the model that they never are an object.
    """

    convention: Literal["paper", "later"] = "paper"
    min_pixels: int = 2048
    train_shots: int = 1
    untrained: Literal["background", "void"] = "background"

    def __post_init__(self) -> None:
        if self.convention not in ("paper", "later"):
            raise ValueError(f"convention is {self.convention!r} but must be 'paper' or 'later'")
        if self.untrained not in ("background", "void"):
            raise ValueError(f"untrained is {self.untrained!r} but must be 'background' or 'void'")
        for name, least in {"min_pixels": 0, "train_shots": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)} but must be at least {least}")
