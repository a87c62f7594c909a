"""Loading episodes: which ones a rank draws, and where a resumed run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Sampler

from lightning_fewshot.episodes import Episode


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
