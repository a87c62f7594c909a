"""RepMet: representative-based metric learning for classification and few-shot detection (CVPR 2019)."""

from lightning_fewshot.models.repmet.baseline_dml import PlainMetricDetector
from lightning_fewshot.models.repmet.classifier import RepMetClassifier
from lightning_fewshot.models.repmet.external import ExternalMetricDetector
from lightning_fewshot.models.repmet.module import RepMetDetector
from lightning_fewshot.models.repmet.plain import PlainDetector

__all__ = ["ExternalMetricDetector", "PlainDetector", "PlainMetricDetector", "RepMetClassifier", "RepMetDetector"]
