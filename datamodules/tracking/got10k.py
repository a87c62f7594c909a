"""GOT-10k (Huang et al. 2019) and any folder of videos in its layout."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.images.roots import Download, find_root
from datamodules.tracking.base import Target, TrackingData, as_splits, hold_out
from lightning_fewshot.tracking.large_sets import got10k_sequence
from lightning_fewshot.tracking.sequence import listed

DOWNLOAD = Download(
    "GOT-10k", ("train/list.txt",), "the full data (train, val, test)", "http://got-10k.aitestunion.com/downloads"
)
OPENED = 512  # videos whose boxes stay in memory


class GOT10k(TrackingData):
    """Videos as ``<split>/<name>/00000001.jpg`` with ``groundtruth.txt`` (x, y, w, h) and ``<split>/list.txt``.

    A frame whose ``absence.label`` is 1 counts as one without the object. Where there is no ``val`` folder, a share of
    the training videos is kept for validation. The test runs on the validation videos: of the set's own test videos the
    truth is not published.

    Args:
        root: Folder that holds the data set's folder, or that folder; None: FEWSHOT_DATA.
        folder: Name of the data set's folder.
        val_share: Share of the training videos kept for validation where the data has none.
        options: See TrackingData.
    """

    def __init__(
        self, root: str | None = None, folder: str = "GOT-10k", val_share: float = 0.1, **options: Any
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.folder = folder
        self.val_share = val_share

    @cached_property
    def videos(self) -> dict[str, list[Path]]:
        """The folder of every video of each split."""
        base = find_root(self.root, DOWNLOAD._replace(folder=self.folder))
        train = _listed(base / "train")
        if (base / "val/list.txt").is_file():
            return as_splits(train, _listed(base / "val"))
        return as_splits(*hold_out(train, self.val_share))

    def count(self, split: str) -> int:
        """Return the number of videos."""
        return len(self.videos[split])

    def target(self, split: str, video: int, rng: np.random.Generator | None = None) -> Target:
        """Open a video; it has one object."""
        return open_video(self.videos[split][video])


def _listed(folder: Path) -> list[Path]:
    return [folder / name for name in listed(folder / "list.txt")]


@lru_cache(OPENED)
def open_video(folder: Path) -> Target:
    """Open one video folder in the GOT-10k layout.

    Raises:
        FileNotFoundError: An image is missing; names it.
        ValueError: It holds no image, or its boxes cannot be read.
    """
    sequence = got10k_sequence(folder)
    return Target(sequence.frames(), sequence.boxes())
