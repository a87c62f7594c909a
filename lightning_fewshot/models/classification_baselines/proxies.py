"""ProxyClassifier: SoftTriple (Qian et al., ICCV 2019), a softmax over several learned proxies of each class.

Shapes: B images, N classes, K proxies of a class, e embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_fewshot.classification.mixtures import ClassMixtures
from lightning_fewshot.classification.module import ClassifierModule
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.episodes import Episode
from lightning_fewshot.settings import BackboneSettings, Optimization


class ProxyClassifier(ClassifierModule):
    """Train an embedding with SoftTriple; the training classes are their proxies.

    Args:
        backbone: "conv4", or any timm network.
        embedding: Layers on top of it.
        n_modes: K, proxies of a class.
        scale: Sharpness of the softmax over classes, lambda of the paper.
        margin: delta of the paper.
        proxies_lr: Learning rate of the proxies, as a multiple.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values.
    """

    keeps_training_classes = False

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("inception_v3"),
        embedding: EmbeddingHead = EmbeddingHead(),
        n_modes: int = 3,
        scale: float = 20.0,
        margin: float = 0.01,
        proxies_lr: float = 5.0,
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
    ) -> None:
        super().__init__(backbone, embedding, optimization=optimization, init_from=init_from)
        if n_modes < 1:
            raise ValueError(f"n_modes is {n_modes} but must be at least 1")
        for name, value in {"scale": scale, "proxies_lr": proxies_lr}.items():
            if value <= 0:
                raise ValueError(f"{name} is {value} but must be above 0")
        self.n_modes = n_modes
        self.scale = scale
        self.margin = margin
        self.proxies_lr = proxies_lr

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make the proxies of the training classes."""
        from pytorch_metric_learning.losses import SoftTripleLoss

        super().set_classes(classes)
        settings = {"centers_per_class": self.n_modes, "la": self.scale, "margin": self.margin}
        self.criterion = SoftTripleLoss(len(classes), self.dim, **settings).to(self.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return all trained parameters, the proxies with a learning rate of their own."""
        learned = self.criterion.fc
        rest = [p for p in self.parameters() if p.requires_grad and p is not learned]
        return [{"params": rest}, {"params": [learned], "lr_factor": self.proxies_lr, "weight_decay": 0.0}]

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return SoftTriple of a batch of training images."""
        labels = self.training_labels(episode)
        return {"soft_triple": self.criterion(self.embed(episode.query.images), labels)}

    def training_classes(self) -> ClassMixtures:
        """Return the proxies, of unit length."""
        proxies = normalize(self.criterion.fc.detach().T, dim=-1).unflatten(0, (-1, self.n_modes))
        return ClassMixtures(proxies, torch.ones(proxies.shape[:2], dtype=torch.bool, device=self.device))
