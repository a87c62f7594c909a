"""Real-time object tracking via meta-learning (Jung et al., AAAI 2020): MetaRTT, MetaRTT+Prune and their baselines."""

from lightning_fewshot.models.metartt.meta_tracker import MetaTrackerBaseline
from lightning_fewshot.models.metartt.module import MetaRTT
from lightning_fewshot.models.metartt.pruned_first_frame import FirstFramePrunedMetaRTT
from lightning_fewshot.models.metartt.pruned_module import PrunedMetaRTT
from lightning_fewshot.models.metartt.pruned_static import StaticPrunedMetaRTT

__all__ = ["FirstFramePrunedMetaRTT", "MetaRTT", "MetaTrackerBaseline", "PrunedMetaRTT", "StaticPrunedMetaRTT"]
