"""OSLSM: one-shot learning for semantic segmentation (BMVC 2017), and the baselines of its table 1."""

from lightning_fewshot.models.oslsm.base_classifier import (
    BaseClassifierSegmenter,
    FineTuningSegmenter,
    LogisticSegmenter,
    NearestNeighbourSegmenter,
)
from lightning_fewshot.models.oslsm.module import OSLSMSegmenter
from lightning_fewshot.models.oslsm.pixel_segmenter import PixelSegmenter
from lightning_fewshot.models.oslsm.prototypes import PrototypeSegmenter
from lightning_fewshot.models.oslsm.siamese import SiameseSegmenter
from lightning_fewshot.models.oslsm.trivial import AllForegroundSegmenter, CopyMaskSegmenter

__all__ = [
    "AllForegroundSegmenter",
    "BaseClassifierSegmenter",
    "CopyMaskSegmenter",
    "FineTuningSegmenter",
    "LogisticSegmenter",
    "NearestNeighbourSegmenter",
    "OSLSMSegmenter",
    "PixelSegmenter",
    "PrototypeSegmenter",
    "SiameseSegmenter",
]
