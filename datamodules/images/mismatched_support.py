"""A control for few-shot methods: the same questions, asked with the support of other classes."""

from __future__ import annotations

from typing import Any

from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode


class MismatchedSupport(EpisodicDataModule):
    """Evaluate each question of a data set with the support of the next one that asks for other classes.

    What a method still finds, it finds without its support. Training episodes are left as they are.

    Args:
        data: The data set whose questions are asked.

    Raises:
        ValueError: No episode asks for other classes.
    """

    def __init__(self, data: EpisodicDataModule) -> None:
        counts = {split: data.counts[split] for split in ("train", "val", "test")}
        super().__init__(
            n_way=data.n_way,
            k_shot=data.k_shot,
            n_query=data.n_query,
            episodes=EpisodeCounts(**counts),
            seed=data.seed,
            num_workers=data.num_workers,
        )
        self.data = data
        self.counts = data.counts  # the data set may count them only when it is set up

    def prepare_data(self) -> None:
        """Prepare the data set."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Set up the data set."""
        self.data.setup(stage)

    def class_names(self) -> tuple[str, ...]:
        """Return the training classes."""
        return self.data.class_names()

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, and that its supports are of other classes."""
        return self.data.protocol(split) | {"support": "mismatched"}

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index``, in evaluation with the support of the next one that asks for other classes."""
        episode = self.data.episode(split, index)
        if split not in ("val", "test"):
            return episode
        count = self.counts[split]
        for step in range(1, count):
            other = self.data.episode(split, (index + step) % count)
            if set(_asked(other)).isdisjoint(_asked(episode)):
                return episode._replace(support=other.support)
        raise ValueError(
            f"mismatched support: all {count} episodes ask for {episode.classes[0]!r} or another of its classes"
        )


def _asked(episode: Episode) -> tuple[int, ...] | tuple[str, ...]:
    return episode.classes if episode.class_ids is None else episode.class_ids
