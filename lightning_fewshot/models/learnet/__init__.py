"""Learning feed-forward one-shot learners (Bertinetto et al., NIPS 2016): character recognition and tracking."""

from lightning_fewshot.models.learnet.characters.hausdorff import ModifiedHausdorff
from lightning_fewshot.models.learnet.characters.module import SiameseLearnet
from lightning_fewshot.models.learnet.tracking.module import SiameseLearnetTracker

__all__ = ["ModifiedHausdorff", "SiameseLearnet", "SiameseLearnetTracker"]
