"""PrototypeClassifier: the nearest class mean of frozen features. There is nothing to train."""

from __future__ import annotations

from torch import Tensor

from lightning_fewshot.classification.module import ClassifierModule
from lightning_fewshot.episodes import Episode
from lightning_fewshot.settings import BackboneSettings, Optimization


class PrototypeClassifier(ClassifierModule):
    """Compare features of unit length with the mean of each class's.

    Args:
        backbone: Any timm network; with weights "none" its features are random.
    """

    needs_training = False

    def __init__(self, backbone: BackboneSettings = BackboneSettings("efficientnet_lite0", "package")) -> None:
        super().__init__(backbone, None, optimization=Optimization(), init_from=None)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Refuse: there is nothing to train.

        Raises:
            ValueError: Always; says what to do.
        """
        raise ValueError("PrototypeClassifier has nothing to train: use `test` or `predict` in place of `fit`")
