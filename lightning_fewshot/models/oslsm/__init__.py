"""OSLSM: one-shot learning for semantic segmentation (BMVC 2017)."""

from lightning_fewshot.models.oslsm.module import OSLSMSegmenter

__all__ = ["OSLSMSegmenter"]
