"""RT-MDNet (Jung et al., ECCV 2018): the base tracker of MetaRTT and the baseline of its table 2."""

from lightning_fewshot.models.rt_mdnet.module import RTMDNet

__all__ = ["RTMDNet"]
