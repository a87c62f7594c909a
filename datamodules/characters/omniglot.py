"""Omniglot (Lake et al., 2015): pairs, random recognition problems, and Lake's twenty runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from datamodules.characters.base import TEST_SPLITS, CharacterPairs
from datamodules.characters.drawings import SIDE, Characters
from datamodules.characters.omniglot_files import SOURCE_SIDE, Run, open_folder, read_alphabets, read_run
from datamodules.characters.problems import PAIR_CLASSES
from lightning_fewshot.episodes import Episode, Examples


class OmniglotPairs(CharacterPairs):
    """Omniglot in its official layout, black ink on white, held in memory as uint8 (25 MB at 28 x 28).

    Args:
        root: Folder that holds ``images_background``, ``images_evaluation`` and ``one-shot-classification``, or their
            zips; None takes ``$FEWSHOT_DATA/omniglot``, or ``data/omniglot`` where that is not set.
        download: Fetch what is missing from the owner's repository.
        test_problems: "random" draws ``episodes.test`` batches of problems from the evaluation alphabets; "lake" takes
            the twenty published runs: 20 exemplars (test items) to be found among 20 candidates (training items).
        side: Side in pixels, up to 105, to which drawings are averaged down. The networks take 28 (section 3.2); the
            modified Hausdorff distance takes any, and published ones are of drawings in full size.
        options: See :class:`CharacterPairs`.

    Raises:
        ValueError: ``test_problems`` is none of these, or ``side`` is out of range.
    """

    def __init__(
        self,
        root: str | None = None,
        download: bool = False,
        test_problems: Literal["random", "lake"] = "random",
        side: int = SIDE,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if test_problems not in ("random", "lake"):
            raise ValueError(f"test_problems is {test_problems!r} but must be 'random' or 'lake'")
        if not 1 <= side <= SOURCE_SIDE:
            raise ValueError(f"side is {side} but must be from 1 to {SOURCE_SIDE} pixels, the size of the drawings")
        self.root = Path(root) if root else Path(os.environ.get("FEWSHOT_DATA", "data")) / "omniglot"
        self.download = download
        self.test_problems = test_problems
        self.side = side
        self._runs: list[Run] = []

    def background(self) -> Characters:
        """Return the 30 alphabets to train on."""
        return read_alphabets(open_folder(self.root, "images_background", self.download), self.side)

    def evaluation(self) -> Characters:
        """Return the 20 alphabets to test on."""
        return read_alphabets(open_folder(self.root, "images_evaluation", self.download), self.side)

    def setup(self, stage: str | None = None) -> None:
        """Load what a stage needs, before worker processes are forked."""
        if stage in TEST_SPLITS and self.test_problems == "lake":
            self._load_runs()
        else:
            super().setup(stage)

    def episode(self, split: str, index: int) -> Episode:
        """Return a batch of pairs ("train") or of problems; a run of Lake's is one episode of 20 problems."""
        if split not in TEST_SPLITS or self.test_problems == "random":
            return super().episode(split, index)
        self._load_runs()
        if not 0 <= index < len(self._runs):
            raise ValueError(f"test episode {index} was asked for but there are {len(self._runs)} runs")
        return _run_episode(self._runs[index], index)

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated."""
        if split not in TEST_SPLITS or self.test_problems == "random":
            return super().protocol(split) | {"side": self.side}
        problems = sum(len(run.exemplars) for run in self._runs)
        return {
            "split": split,
            "task": "one-shot-classification, Lake's runs",
            "n_way": 20,
            "k_shot": 1,
            "episodes": len(self._runs),
            "problems": problems,
            "side": self.side,
        }

    def _load_runs(self) -> None:
        if not self._runs:
            folder = open_folder(self.root, "one-shot-classification", self.download)
            runs = sorted(p for p in folder.iterdir() if p.is_dir() and p.name.startswith("run"))
            if not runs:
                raise ValueError(f"{folder} holds no run01 .. run20")
            self._runs = [read_run(path, self.side) for path in runs]
            self.counts["test"] = len(self._runs)


def _run_episode(run: Run, index: int) -> Episode:
    count, ways = len(run.exemplars), len(run.candidates)
    labels = np.zeros((count, ways), dtype=np.int64)
    labels[np.arange(count), run.matches] = 1
    support = Examples(
        torch.from_numpy(run.exemplars)[:, None], names=tuple(f"run{index + 1:02d}/test/{i}" for i in range(count))
    )
    query = Examples(
        torch.from_numpy(np.tile(run.candidates, (count, 1, 1)))[:, None],
        torch.from_numpy(labels.reshape(-1)),
        names=tuple(f"run{index + 1:02d}/training/{i}" for i in range(ways)) * count,
    )
    return Episode(support, query, PAIR_CLASSES, index, protocol="problems")
