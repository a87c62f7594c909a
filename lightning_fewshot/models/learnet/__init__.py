"""Learning feed-forward one-shot learners (Bertinetto et al., NIPS 2016), character recognition."""

from lightning_fewshot.models.learnet.hausdorff import ModifiedHausdorff
from lightning_fewshot.models.learnet.lightning_module import SiameseLearnet

__all__ = ["ModifiedHausdorff", "SiameseLearnet"]
