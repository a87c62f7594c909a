"""The contract of every paper: look at a few labelled examples, then predict.

``adapt(support) -> state`` and ``predict(state, query) -> predictions`` are what a paper writes, together with its
``loss``. The training, validation, test and predict steps are written once, here, so that no paper can be evaluated
differently by accident. State is returned, never stored on the module: two episodes cannot mix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, Sampler
from torchmetrics import Metric

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.sampling import episode_rng
from lightning_fewshot.schedules import Schedule, lr_factor


class FewShotModule(LightningModule, ABC):
    """A paper as a LightningModule. Subclasses write ``adapt``, ``predict``, ``loss`` and ``build_metrics``.

    Args:
        optimizer: The optimiser, as a class_path with its init_args.
        schedule: Learning rate over the run: see :func:`lightning_fewshot.schedules.lr_factor`.
        warmup: Fraction of the run in which the learning rate rises from 0.
        final_lr: Learning rate at the end, as a fraction of the initial one ("cosine" and "geometric").

    Every metric's ``compute`` returns ``{name: Estimate}``: a value, its 95 % interval and the number of episodes.
    After a validation or a test they stand in ``estimates`` until the next one.
    """

    estimates: dict[str, Any]

    def __init__(
        self,
        optimizer: OptimizerCallable = AdamW,
        schedule: Schedule = "cosine",
        warmup: float = 0.0,
        final_lr: float = 0.01,
    ) -> None:
        super().__init__()
        self.optimizer, self.schedule, self.warmup, self.final_lr = optimizer, schedule, warmup, final_lr
        self.estimates = {}
        self._run_seed: int | None = None

    @abstractmethod
    def adapt(self, support: Examples) -> Any:
        """Turn labelled examples into the state that ``predict`` uses; differentiable where the paper trains it."""

    @abstractmethod
    def predict(self, state: Any, query: Examples) -> Any:
        """Predict on new images with an adapted state."""

    @abstractmethod
    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the terms of the training loss by name; their sum is minimised."""

    @abstractmethod
    def build_metrics(self) -> Metric:
        """Return a fresh metric with ``update(preds, episode)`` and ``compute() -> {name: Estimate}``."""

    def state_of(self, episode: Episode) -> Any:
        """Return the state to predict an episode with. A paper that can do without support overrides this."""
        return self.adapt(episode.support)

    def forward(self, episode: Episode) -> Any:
        """Adapt to the support, predict the query."""
        return self.predict(self.state_of(episode), episode.query)

    def training_step(self, episode: Episode, batch_idx: int) -> Tensor:
        """Sum the loss terms and log each."""
        terms = self.loss(episode)
        total = torch.stack(list(terms.values())).sum()
        self._check_finite(total, terms, episode)
        size = len(episode.query.images)
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=size)
        self.log("train/loss", total.detach(), batch_size=size, prog_bar=True)
        return total

    def validation_step(self, episode: Episode, batch_idx: int) -> Any:
        """Predict one episode and count it."""
        return self._evaluate(episode, "val")

    def test_step(self, episode: Episode, batch_idx: int) -> Any:
        """Predict one episode and count it."""
        return self._evaluate(episode, "test")

    def predict_step(self, episode: Episode, batch_idx: int) -> Any:
        """Predict one episode."""
        return self(episode)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what the optimiser gets; a group may hold ``lr_factor``, a multiple of the learning rate."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def load_initial(self, path: str) -> None:
        """Start from another run's weights, ``init_from``, as far as names and shapes agree.

        Raises:
            FileNotFoundError: There is no such checkpoint.
            ValueError: None of its parameters fits.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"init_from is {path}, but there is no such file")
        saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        own = self.state_dict()
        fitting = {name: value for name, value in saved.items() if name in own and own[name].shape == value.shape}
        if not fitting:
            raise ValueError(f"init_from {path}: none of its {len(saved)} parameters fits {type(self).__name__}")
        self.load_state_dict(fitting, strict=False)
        self.print(f"init_from {path}: {len(fitting)} of {len(own)} parameters taken")

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimiser with its schedule, stepped every batch."""
        optimizer = self.optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_factor", 1.0)
        total = int(self.trainer.estimated_stepping_batches)
        factor = partial(lr_factor, total=total, schedule=self.schedule, warmup=self.warmup, final=self.final_lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model, or of other sizes, and name what differs.

        Raises:
            ValueError: Names the first parameters that differ, with both shapes.
        """
        saved = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
        own = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        differing = [name for name in sorted({*saved, *own}) if saved.get(name) != own.get(name)]
        if differing:
            lines = [f"{n}: {saved.get(n, 'absent')} in the file, {own.get(n, 'absent')} here" for n in differing[:3]]
            raise ValueError(
                f"the checkpoint does not fit this {type(self).__name__}: {len(differing)} parameters differ "
                f"({'; '.join(lines)}). Use the config.yaml that stands beside the checkpoint's folder."
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights that are no numbers any more, so that every checkpoint on disk is a good one.

        Raises:
            FloatingPointError: Names the first parameter that is not finite.
        """
        for name, value in checkpoint["state_dict"].items():
            if not torch.isfinite(value).all():
                raise FloatingPointError(f"{name} is not finite after step {self.global_step}. {self._advice()}")

    def setup(self, stage: str) -> None:
        """Build the metrics, and remember the seed of the run before any step changes the global one."""
        if self._run_seed is None:
            self._run_seed = torch.initial_seed() % 2**32
            self.metrics = nn.ModuleDict({"val": self.build_metrics(), "test": self.build_metrics()})

    def on_train_batch_start(self, batch: Episode, batch_idx: int) -> None:
        """Make the randomness of a step a function of (seed, episode), so that a resumed run repeats it."""
        torch.manual_seed(self._seed("train", batch.index))

    def on_validation_epoch_end(self) -> None:
        """Compute, log and keep the estimates."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Compute, log and keep the estimates."""
        self._finish("test")

    def _evaluate(self, episode: Episode, split: str) -> Any:
        torch.manual_seed(self._seed(split, episode.index))
        preds = self(episode)
        self.metrics[split].update(preds, episode)
        return preds

    def _finish(self, split: str) -> None:
        metric = self.metrics[split]
        self.estimates = metric.compute()
        metric.reset()
        self.log_dict({f"{split}/{name}": float(e.value) for name, e in self.estimates.items()}, rank_zero_only=False)

    def _seed(self, split: str, index: int) -> int:
        return int(episode_rng(self._run_seed or 0, split, index, "step").integers(2**62))

    def _check_finite(self, total: Tensor, terms: dict[str, Tensor], episode: Episode) -> None:
        if torch.isfinite(total):
            return
        values = ", ".join(f"{name} {float(value):g}" for name, value in terms.items())
        raise FloatingPointError(
            f"the loss is {float(total)} at step {self.global_step} ({values}); training episode {episode.index}, "
            f"images {', '.join(episode.query.names or ()) or 'unnamed'}. {self._advice()}"
        )

    def _advice(self) -> str:
        checkpoint = getattr(self.trainer.checkpoint_callback, "last_good_path", None) or "none was saved yet"
        return (
            f"Last good checkpoint: {checkpoint}. "
            "Lower the learning rate, or clip gradients with --trainer.gradient_clip_val 10."
        )


class EpisodicDataModule(LightningDataModule, ABC):
    """Data as episodes. Subclasses write ``episode(split, index)``; loaders, ranks and resuming are written once.

    Args:
        n_way: Classes of a validation or test episode.
        k_shot: Support examples of each class.
        n_query: Query examples of each class.
        train_episodes: Training episodes (batches) of one epoch, over all ranks.
        val_episodes: Validation episodes.
        test_episodes: Test episodes.
        seed: Episode i of a split is a function of (seed, split, i) alone.
        num_workers: Processes that prepare episodes; 0 prepares them in the training process.
    """

    def __init__(
        self,
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 10,
        train_episodes: int = 1000,
        val_episodes: int = 50,
        test_episodes: int = 500,
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__()
        for name, count in {"n_way": n_way, "k_shot": k_shot, "train_episodes": train_episodes}.items():
            if count < 1:
                raise ValueError(f"{name} is {count} but must be at least 1")
        for name, count in {"n_query": n_query, "val_episodes": val_episodes, "test_episodes": test_episodes}.items():
            if count < 0:
                raise ValueError(f"{name} is {count} but must be at least 0")
        self.n_way, self.k_shot, self.n_query = n_way, k_shot, n_query
        self.episodes = {"train": train_episodes, "val": val_episodes, "test": test_episodes, "predict": 1}
        self.seed, self.num_workers = seed, num_workers

    @abstractmethod
    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of ``split``: "train", "val", "test" or, where there is one, "predict"."""

    def class_names(self) -> tuple[str, ...]:
        """Return the training classes; a model that learns one output a class asks for them."""
        raise AttributeError(f"{type(self).__name__} has no fixed set of training classes")

    def rng(self, split: str, index: int, stream: str = ""):
        """Return the numpy generator of one episode."""
        return episode_rng(self.seed, split, index, stream)

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        return {
            "split": split,
            "n_way": self.n_way,
            "k_shot": self.k_shot,
            "n_query": self.n_query,
            "episodes": self.episodes[split],
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

    def _loader(self, split: str) -> DataLoader:
        rank, world_size = self._rank()
        if 0 < self.episodes[split] < world_size:
            raise ValueError(f"split {split!r} has {self.episodes[split]} episodes but there are {world_size} devices")
        order = EpisodeOrder(self.episodes[split], self.trainer if split == "train" else None, rank, world_size)
        workers = self.num_workers if split != "predict" else 0
        if workers and split == "train" and self.episodes[split]:
            self.episode(split, 0)  # imports here what episodes need: W&B watches some imports and fails in a worker's
        return EpisodeLoader(
            _Episodes(self, split),
            sampler=order,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the trainer behind when a worker process is spawned."""
        return {**self.__dict__, "trainer": None}

    def _rank(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


class EpisodeOrder(Sampler[int]):
    """The numbers of the episodes that one rank draws in an epoch: every ``world_size``-th.

    In training the numbers go on from epoch to epoch, and from where a resumed run had stopped: the position is the
    trainer's own count of processed batches. All ranks then draw equally many; an epoch is rounded up to that.
    """

    def __init__(self, count: int, trainer: Any = None, rank: int = 0, world_size: int = 1) -> None:
        self.trainer, self.rank, self.world_size = trainer, rank, world_size
        self.count = -(-count // world_size) * world_size if trainer is not None else count

    def __len__(self) -> int:
        return len(range(self.rank, self.count, self.world_size))

    def __iter__(self) -> Iterator[int]:
        first, count = 0, self.count
        if self.trainer is not None:
            done = self.trainer.fit_loop.epoch_loop.batch_progress
            first = self.world_size * done.total.processed
            count -= self.world_size * done.current.processed % self.count  # what is left of an interrupted epoch
        return iter(range(first + self.rank, first + count, self.world_size))


class EpisodeLoader(DataLoader):
    """A DataLoader that resumes in the middle of an epoch. Its position is the trainer's, so its own state is empty."""

    def __iter__(self) -> Iterator[Episode]:
        """Draw nothing before the first episode is asked for: only then has the trainer restored its position."""
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: see :class:`EpisodeOrder`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing: see :class:`EpisodeOrder`."""


class _Episodes(Dataset):
    def __init__(self, data: EpisodicDataModule, split: str) -> None:
        self.data, self.split = data, split

    def __getitem__(self, index: int) -> Episode:
        return self.data.episode(self.split, index)
