"""The contract of every data set: episode i of a split is a function of (seed, split, i) alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.loaders import EpisodeLoader, EpisodeOrder
from lightning_fewshot.sampling import episode_rng
from lightning_fewshot.waiting import with_those_of, without

STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


@dataclass(frozen=True)
class EpisodeCounts:
    """How many episodes a run has.

    Args:
        train: Training episodes (batches) of one epoch, over all ranks, at least 1.
        val: Validation episodes; None: all that there are (of videos).
        test: Test episodes; None: all that there are (of videos).
    """

    train: int = 1000
    val: int | None = 50
    test: int | None = 500

    def __post_init__(self) -> None:
        if self.train < 1:
            raise ValueError(f"episodes.train is {self.train} but must be at least 1")
        for name, count in {"val": self.val, "test": self.test}.items():
            if count is not None and count < 0:
                raise ValueError(f"episodes.{name} is {count} but must be at least 0")


class EpisodicDataModule(LightningDataModule, ABC):
    """Data as episodes. Subclasses write ``episode(split, index)``; loaders, ranks and resuming are written once.

    Args:
        n_way: Classes of a validation or test episode.
        k_shot: Support examples of each class.
        n_query: Query examples of each class.
        episodes: Episodes of training, validation and test.
        seed: Episode i of a split is a function of (seed, split, i) alone.
        num_workers: Processes that prepare episodes; 0 prepares them in the training process.

    Attributes:
        data_license: Licence of the data, for model cards; None: not known.
    """

    data_license: ClassVar[str | None] = None

    def __init__(
        self,
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 10,
        episodes: EpisodeCounts = EpisodeCounts(),
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__()
        for name, (count, least) in {"n_way": (n_way, 1), "k_shot": (k_shot, 1), "n_query": (n_query, 0)}.items():
            if count < least:
                raise ValueError(f"{name} is {count} but must be at least {least}")
        self.n_way = n_way
        self.k_shot = k_shot
        self.n_query = n_query
        self.seed = seed
        self.num_workers = num_workers
        # Of videos all are wanted where a count is None; their data counts them in setup.
        self.counts = {"train": episodes.train, "val": episodes.val, "test": episodes.test, "predict": 1}

    @abstractmethod
    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of ``split``: "train", "val", "test" or, where there is one, "predict"."""

    def class_names(self) -> tuple[str, ...]:
        """Return the training classes; a model that learns one output a class asks for them."""
        raise AttributeError(f"{type(self).__name__} has no fixed set of training classes")

    def rng(self, split: str, index: int, stream: str = "") -> np.random.Generator:
        """Return the numpy generator of one episode."""
        return episode_rng(self.seed, split, index, stream)

    def to_draw(self, episode: Episode) -> Examples:
        """Return the images of a predicted episode as they are drawn; by default as the model sees them."""
        return episode.query

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        return {
            "split": split,
            "n_way": self.n_way,
            "k_shot": self.k_shot,
            "n_query": self.n_query,
            "episodes": self.counts[split],
            "seed": self.seed,
        }

    def train_dataloader(self) -> DataLoader:
        """Return the training episodes of an epoch; the stream goes on over epochs and over a resumed run."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader:
        """Return this rank's validation episodes."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        """Return this rank's test episodes."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader:
        """Return this rank's episodes to predict."""
        return self._loader("predict")

    def transfer_batch_to_device(self, batch: Episode, device: torch.device, dataloader_idx: int) -> Episode:
        """Move an episode, but for what the model says ``stays_on_cpu``.

        On a CPU all is there, and Lightning would look at every name in it.
        """
        if device.type == "cpu":
            return batch
        fields = getattr(self.trainer.lightning_module, "stays_on_cpu", ())
        moved = super().transfer_batch_to_device(without(batch, fields), device, dataloader_idx)
        return with_those_of(moved, batch, fields)

    def _loader(self, split: str) -> DataLoader:
        rank, world_size = self._rank()
        if 0 < self.counts[split] < world_size:
            raise ValueError(f"split {split!r} has {self.counts[split]} episodes but there are {world_size} devices")
        order = EpisodeOrder(self.counts[split], self.trainer if split == "train" else None, rank, world_size)
        workers = self.num_workers if split != "predict" else 0
        if workers and split == "train" and self.counts[split]:
            self.episode(split, 0)  # imports here what episodes need: W&B watches some imports and fails in a worker's
        return EpisodeLoader(
            _Episodes(self, split),
            sampler=order,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the trainer behind when a worker process is spawned."""
        return {**self.__dict__, "trainer": None}

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _as_it_is(episode: Episode) -> Episode:
    """Leave an episode alone; what PyTorch does by default looks at every name in it."""
    return episode


class _Episodes(Dataset):
    def __init__(self, data: EpisodicDataModule, split: str) -> None:
        self.data, self.split = data, split

    def __getitem__(self, index: int) -> Episode:
        return self.data.episode(self.split, index)
