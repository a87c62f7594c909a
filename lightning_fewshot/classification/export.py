"""The adapted classifier as an ordinary network: encoder, embedding, distances to fixed modes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import Tensor, nn

from lightning_fewshot.classification.mixtures import ClassMixtures
from lightning_fewshot.nn.embedding import embed_features

if TYPE_CHECKING:
    from lightning_fewshot.classification.module import ClassifierModule


class StaticClassifier(nn.Module):
    """A classifier whose classes are fixed; for torch.export and ONNX.

    Args:
        module: The trained classifier; it is copied, not changed.
        state: What ``adapt`` or ``training_classes`` returned.
    """

    def __init__(self, module: ClassifierModule, state: ClassMixtures) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(module.encoder)
        self.head = copy.deepcopy(module.head)
        self.unit = module.unit
        self.rule = module.score_rule()
        for name, value in zip(ClassMixtures._fields, state, strict=True):
            self.register_buffer(name, value)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Score images ``(B, 3, H, W)`` uint8, ``(B, N)``, as ``predict`` does."""
        embedded = embed_features(self.head, self.encoder(images), self.unit)
        return self.rule(embedded, self.representatives, self.used, self.negatives)
