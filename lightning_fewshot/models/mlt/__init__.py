"""Deep meta learning for real-time target-aware visual tracking (Choi, Kwon, Lee, ICCV 2019): MLT."""

from lightning_fewshot.models.mlt.matching import MatchingTracker
from lightning_fewshot.models.mlt.module import MetaLearnerTracker

__all__ = ["MatchingTracker", "MetaLearnerTracker"]
