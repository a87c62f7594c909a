"""Accuracy on tasks of Omniglot: 5 and 20 ways, 1 and 5 shots, over all characters and within one alphabet.

    FEWSHOT_DATA=/data python studies/omniglot_episodes.py runs/protonet/checkpoints/best.ckpt

Every drawing of the 20 evaluation alphabets is embedded once; a task then costs a millisecond. The tasks are those that
``python -m lightning_fewshot test`` asks with the same ways, shots, queries and seed.
"""

from __future__ import annotations

import argparse
import itertools

import torch

from datamodules import OmniglotTasks
from lightning_fewshot import load
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.metrics.accuracy import Accuracy
from lightning_fewshot.metrics.estimate import Estimate

BATCH = 256
WAYS, SHOTS, N_QUERY = (5, 20), (1, 5), 15


class EmbeddedTasks:
    """Tasks as places of drawings in one embedding.

    Args:
        path: A checkpoint of a classifier.
    """

    def __init__(self, path: str) -> None:
        self.module = load(path).module.eval()
        self.characters = OmniglotTasks().characters("test")
        images = torch.from_numpy(self.characters.images)[:, None]
        with torch.no_grad():
            self.embedded = torch.cat([self.module.embed(part) for part in images.split(BATCH)])

    @torch.no_grad()
    def accuracy(self, n_way: int, k_shot: int, within: bool, count: int) -> Estimate:
        """Return the accuracy over tasks with its 95 % interval."""
        data = OmniglotTasks(
            within_alphabet=within, n_way=n_way, k_shot=k_shot, n_query=N_QUERY, episodes=EpisodeCounts(1, 1, count)
        )
        metric = Accuracy()
        for index in range(count):
            episode = data.episode("test", index)
            shots, queries = (self.embedded[self._numbers(part.names)] for part in (episode.support, episode.query))
            state = self.module.modes_of(shots, episode.support.labels)
            metric.update(self.module.scores(state, queries), episode)
        return metric.compute()["accuracy"]

    def _numbers(self, names: tuple[str, ...] | None) -> list[int]:
        return [int(name.rpartition("/")[2]) for name in names or ()]


def main(path: str, count: int) -> None:
    """Print one table."""
    tasks = EmbeddedTasks(path)
    print("| ways | shots | all characters | within an alphabet |\n|---:|---:|---:|---:|")
    for n_way, k_shot in itertools.product(WAYS, SHOTS):
        found = [tasks.accuracy(n_way, k_shot, within, count) for within in (False, True)]
        cells = [f"{100 * e.value:.2f} ({100 * e.low:.2f} to {100 * e.high:.2f})" for e in found]
        print(f"| {n_way} | {k_shot} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--tasks", type=int, default=1000)
    options = parser.parse_args()
    main(options.checkpoint, options.tasks)
