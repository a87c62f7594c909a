"""Real-time object tracking via meta-learning (Jung et al., AAAI 2020), with RT-MDNet as its base and baseline."""

from lightning_fewshot.models.metartt.module import MetaRTT
from lightning_fewshot.models.metartt.pruned_module import PrunedMetaRTT
from lightning_fewshot.models.rt_mdnet.module import RTMDNet

__all__ = ["MetaRTT", "PrunedMetaRTT", "RTMDNet"]
