"""A sixth paper and its data in one page: prototypes of 8x8 pictures, with dropout so that randomness matters."""

import math
import time

import torch
from torch import nn
from torchmetrics import Metric

from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.estimate import Estimate
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.sampling import EpisodeSampler
from lightning_fewshot.settings import Optimization

N_CLASSES = {"train": 8, "val": 6, "test": 6, "predict": 6}
ITEMS = 20


class Accuracy(Metric):
    """Mean accuracy of the episodes, from sums, which a rank without an episode has too."""

    def __init__(self):
        super().__init__()
        for name in ("n", "total", "squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds, episode):
        correct = (preds.argmax(1) == episode.query.labels).double().mean()
        self.n, self.total, self.squares = self.n + 1, self.total + correct, self.squares + correct**2

    def compute(self):
        n, mean = int(self.n), float(self.total / self.n)
        variance = (float(self.squares) - n * mean**2) / (n - 1) if n > 1 else math.nan
        half = 1.96 * math.sqrt(max(variance, 0) / n)
        return {"accuracy": Estimate(mean, mean - half, mean + half, n)}


class ToyModel(FewShotModule):
    """Prototypes in a learned embedding.

    Args:
        width: Size of the embedding.
        nan_at: Training episode whose loss is nan.
        optimization: See FewShotModule.
    """

    def __init__(
        self, width: int = 8, nan_at: int = -1, optimization: Optimization = Optimization("Adam", weight_decay=0.0)
    ):
        super().__init__(optimization)
        self.embed = nn.Sequential(nn.Linear(64, width), nn.BatchNorm1d(width), nn.Dropout(0.3))
        self.nan_at = nan_at

    def adapt(self, support):
        features, labels = self.embed(support.images.flatten(1) / 255), support.labels
        return torch.stack([features[labels == c].mean(0) for c in range(int(labels.max()) + 1)])

    def predict(self, state, query):
        return -torch.cdist(self.embed(query.images.flatten(1) / 255), state)

    def loss(self, episode):
        loss = nn.functional.cross_entropy(self(episode), episode.query.labels)
        return {"cross_entropy": loss * (float("nan") if episode.index == self.nan_at else 1)}

    def build_metrics(self):
        return Accuracy()


class ToyData(EpisodicDataModule):
    """Noisy copies of one random picture a class.

    Args:
        broken_at: Training episode that cannot be made.
        seconds: Time that an episode takes.
    """

    def __init__(
        self,
        n_way: int = 3,
        k_shot: int = 1,
        n_query: int = 2,
        episodes: EpisodeCounts = EpisodeCounts(6, 3, 5),
        seed: int = 0,
        num_workers: int = 0,
        broken_at: int = -1,
        seconds: float = 0.0,
    ):
        super().__init__(
            n_way=n_way, k_shot=k_shot, n_query=n_query, episodes=episodes, seed=seed, num_workers=num_workers
        )
        self.broken_at, self.seconds = broken_at, seconds

    def episode(self, split, index):
        if (split, index) == ("train", self.broken_at):
            raise ValueError("photo 7.jpg is truncated")
        time.sleep(self.seconds)
        items = {f"{split}_{c}": [(c, i) for i in range(ITEMS)] for c in range(N_CLASSES[split])}
        plan = EpisodeSampler(items, self.n_way, self.k_shot, self.n_query, self.seed, split)[index]
        return Episode(self._examples(split, plan.support), self._examples(split, plan.query), plan.classes, index)

    def _examples(self, split, rows):
        images = torch.stack([self._image(split, *item) for row in rows for item in row])
        labels = torch.tensor([label for label, row in enumerate(rows) for _ in row])
        return Examples(images, labels, names=tuple(f"{split}_{c}_{i}" for row in rows for c, i in row))

    def _image(self, split, c, i):
        template = self.rng(split, c, "template").integers(0, 256, (1, 8, 8))
        noise = self.rng(split, 1000 * c + i, "noise").normal(0, 60, (1, 8, 8))
        return torch.from_numpy((template + noise).clip(0, 255).astype("uint8"))
