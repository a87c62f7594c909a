"""Heads that are trained on the regions of a frozen detector: RepMet's by several recipes, and its baselines'."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead
from lightning_fewshot.models.repmet.head import Representatives
from lightning_fewshot.models.repmet.loss import triplet_loss
from lightning_fewshot.models.repmet.plain import PlainDetector
from lightning_fewshot.models.repmet.settings import Mixture
from lightning_fewshot.nn.embedding import EmbeddingModule

BATCH = 256  # regions of a step, half of them objects
FIRST = 3  # modules of the detector's first fully connected layer: linear, normalisation, ReLU
EMBEDDING = 256
REPRESENTATIVES_LR = 5.0
LR = 1e-3
DML, EXTERNAL = "baseline-DML", "baseline-DML-external"
RECIPES = {
    "sigma 0.5": Mixture(),
    "sigma 0.4": Mixture(sigma=0.4),
    "sigma 0.3": Mixture(sigma=0.3),
    "sigma 0.5, squared": Mixture(margin_unit="squared"),
    "sigma 0.3, squared": Mixture(sigma=0.3, margin_unit="squared"),
    "sigma 0.5, background": Mixture(background_margin=True),
    "sigma 0.5, negatives": Mixture(negatives=20),
    "sigma 0.3, squared, background": Mixture(sigma=0.3, margin_unit="squared", background_margin=True),
    "sigma 0.3, squared, background, negatives": Mixture(
        sigma=0.3, margin_unit="squared", background_margin=True, negatives=20
    ),
}


@dataclass
class TrainedHead:
    """Layers to features, a last layer to the embedding, and constants.

    Args:
        layers: From pooled regions where ``from_pooled``, else from what the detector's first layer makes of them.
        last: Weight and bias of the last layer.
        mixture: Of the scores.
        trained: The head of the training classes.
        from_pooled: The head has no layer of the detector.
    """

    layers: nn.Module
    last: tuple[Tensor, Tensor]
    mixture: Mixture
    trained: MetricHead | LinearHead | None = None
    from_pooled: bool = False

    @property
    def negatives(self) -> Tensor | None:
        """Representatives of the background, where the recipe learned some."""
        return self.trained.negatives if isinstance(self.trained, MetricHead) else None


@torch.no_grad()
def first_layer(detector: PlainDetector, pooled: Tensor) -> Tensor:
    """Return what all heads but the external one share of pooled regions, ``(R, F)``, in half precision."""
    parts = pooled.split(4096)
    return torch.cat([detector.network.head[:FIRST](part.float()).half() for part in parts])


def batches(pooled: Tensor, labels: Tensor, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw the same regions for every head."""
    generator = torch.Generator().manual_seed(1 + seed)
    objects, ground = (labels > 0).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    for _ in range(steps):
        drawn = torch.randint(len(objects), (BATCH // 2,), generator=generator)
        rest = torch.randint(len(ground), (BATCH - BATCH // 2,), generator=generator)
        kept = torch.cat([objects[drawn], ground[rest]])
        yield pooled[kept].float(), labels[kept]


def train(detector: PlainDetector, name: str, regions: tuple[Tensor, Tensor], steps: int, seed: int) -> TrainedHead:
    """Train a head by its name.

    Args:
        detector: Frozen; RepMet and baseline-DML start from its second layer, baseline-DML also from its classifier.
        name: A recipe of RepMet's, or a baseline.
        regions: ``(R, F)`` and labels; the external baseline's are pooled regions, the others' the first layer's.
        steps: Of AdamW.
        seed: Gives the initialisation and the order of the regions.
    """
    torch.manual_seed(seed)
    if name == DML:
        return _train_softmax(detector, regions, steps, seed)
    if name == EXTERNAL:
        return _train_external(detector, regions, steps, seed)
    return _train_mixture(detector, RECIPES[name], regions, steps, seed)


def _train_softmax(detector: PlainDetector, regions: tuple[Tensor, Tensor], steps: int, seed: int) -> TrainedHead:
    """Train the plain detector's second layer and its linear softmax classifier further."""
    layers, classify = copy.deepcopy(detector.network.head[FIRST:]).train(), copy.deepcopy(detector.classify)
    groups = [{"params": list(part.parameters())} for part in (layers, classify)]
    for features, labels, step in _steps(groups, regions, steps, seed):
        step(cross_entropy(classify(layers(features)), labels))
    size = detector.network.n_features
    trained = LinearHead(classify.weight.detach(), classify.bias.detach())
    return TrainedHead(layers.eval(), (torch.eye(size), torch.zeros(size)), Mixture(), trained)


def _train_external(detector: PlainDetector, regions: tuple[Tensor, Tensor], steps: int, seed: int) -> TrainedHead:
    """Train an embedding of the detector's widths from random initialisation, by the triplet loss (section 5.2)."""
    embedding = EmbeddingModule(detector.network.n_pooled, detector.network.roi_head.widths, EMBEDDING).train()
    for pooled, labels, step in _steps([{"params": list(embedding.parameters())}], regions, steps, seed):
        step(triplet_loss(embedding.embed(embedding(pooled)), labels, Mixture().margin))
    last = embedding.last.weight.detach(), embedding.last.bias.detach()
    return TrainedHead(embedding.layers.eval(), last, Mixture(), from_pooled=True)


def _train_mixture(
    detector: PlainDetector, mixture: Mixture, regions: tuple[Tensor, Tensor], steps: int, seed: int
) -> TrainedHead:
    """Train RepMet's embedding and representatives."""
    layers, last = (
        copy.deepcopy(detector.network.head[FIRST:]).train(),
        nn.Linear(detector.network.n_features, EMBEDDING),
    )
    learned = Representatives(len(detector.classes), mixture.n_modes, EMBEDDING)
    negatives = Representatives(1, mixture.negatives, EMBEDDING) if mixture.negatives else None
    modes = [*learned.parameters(), *(negatives.parameters() if negatives else [])]
    groups = [{"params": [*layers.parameters(), *last.parameters()]}, {"params": modes, "lr": LR * REPRESENTATIVES_LR}]
    ground = None if negatives is None else negatives.weight[0]
    for features, labels, step in _steps(groups, regions, steps, seed):
        head = MetricHead(last.weight, last.bias, learned.weight, None, mixture, ground)
        step(head.losses(layers(features), labels).mean())
        ground = None if negatives is None else negatives.weight[0]
    weights = last.weight.detach(), last.bias.detach()
    ground = None if ground is None else ground.detach()
    trained = MetricHead(*weights, learned.weight.detach(), None, mixture, ground)
    return TrainedHead(layers.eval(), weights, mixture, trained)


def _steps(groups: list[dict], regions: tuple[Tensor, Tensor], steps: int, seed: int):
    """Yield batches, and a function that takes the step of a loss."""
    optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    for inputs, labels in batches(*regions, steps, seed):
        yield inputs, labels, step
