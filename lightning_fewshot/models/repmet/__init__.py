"""RepMet: representative-based metric learning for classification and few-shot detection (CVPR 2019)."""

from lightning_fewshot.models.repmet.module import RepMetDetector

__all__ = ["RepMetDetector"]
