"""Tiny-ImageNet with its object boxes, composed into mosaics so that boxes do not fill the image.

RepMet's (Karlinsky et al. 2019, section 5.2) novel classes are kept for testing: 22 of its 214 are in Tiny-ImageNet. A
validation set of classes is drawn from the others by seed; the rest is for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from datamodules.detection.mosaics import compose
from datamodules.images.augmentation import jitter_colors
from datamodules.images.boxed_photo import Photo
from datamodules.images.catalog import PhotoSplits
from datamodules.images.photos import PhotoEpisodes
from datamodules.images.roots import find_root
from datamodules.images.tiny_imagenet import DOWNLOAD, SIDE, read_tiny_imagenet, read_titles
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.images import read_image
from lightning_fewshot.sampling import episode_rng

MOST_PHOTOS = 4  # tiles of a canvas
# The classes of Tiny-ImageNet among the 214 novel ones of RepMet's published benchmark (its class list, by WordNet id).
NOVEL_WNIDS = (
    *("n01629819", "n01641577", "n01644900", "n01742172", "n01774750", "n01855672", "n01882714", "n02002724"),
    *("n02056570", "n02058221", "n02085620", "n02099601", "n02099712", "n02106662", "n02113799", "n02123045"),
    *("n02129165", "n02395406", "n02403003", "n02410509", "n02437312", "n02486410"),
)


@dataclass(frozen=True)
class Mosaic:
    """What a canvas holds.

    Args:
        canvas: Its side in pixels.
        max_photos: Most photos on a training canvas, 1 to 4.
        distractors: Most photos of other classes of the split on a query canvas.
        color: Color augmentation in training.
    """

    canvas: int = 160
    max_photos: int = MOST_PHOTOS
    distractors: int = 2
    color: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.max_photos <= MOST_PHOTOS:
            raise ValueError(f"max_photos is {self.max_photos} but must be 1 to {MOST_PHOTOS}")
        if self.canvas < 1 or self.distractors < 0:
            raise ValueError(
                f"canvas must be at least 1 pixel and distractors at least 0, got {self.canvas} and {self.distractors}"
            )


class TinyImageNetMosaics(PhotoEpisodes):
    """Tiny-ImageNet photos at random scales on one canvas.

    Training episodes are batches of canvases with 1 to ``max_photos`` photos, every object labelled with its training
    class. An evaluation episode has a canvas a shot (one labelled photo, and at most one photo of a class outside the
    episode), and a canvas a query photo: with up to ``distractors`` photos of classes outside the episode, unlabelled.

    Args:
        root: Folder that holds ``tiny-imagenet-200``, or that folder; None: FEWSHOT_DATA.
        batch_size: Canvases of a training batch.
        mosaic: What a canvas holds.
        photos_kept: Photos of each class that training never sees, for ``eval_classes: seen``.
        splits: Which classes train, validate and test.
        n_query: Query photos of each class.
        episodes: Episodes of training, validation and test.
        options: See PhotoEpisodes.

    Raises:
        ValueError: ``n_way`` above the classes of a split, or too few photos for an episode.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 16,
        mosaic: Mosaic = Mosaic(),
        photos_kept: int = 15,
        splits: PhotoSplits = PhotoSplits(val_classes=20),
        episodes: EpisodeCounts = EpisodeCounts(1000, 20, 200),
        **options,
    ) -> None:
        super().__init__(root, batch_size, splits, episodes=episodes, **options)
        if photos_kept < 0:
            raise ValueError(f"photos_kept is {photos_kept} but must be at least 0")
        self.mosaic = mosaic
        self.photos_kept = photos_kept

    @property
    def picture_side(self) -> int:
        """Side of a canvas in pixels, known without the photos."""
        return self.mosaic.canvas

    def benchmark_names(self) -> Sequence[str]:
        """Return RepMet's novel classes that are there (WordNet ids)."""
        return sorted(self.catalog.shown_classes.intersection(NOVEL_WNIDS))

    def read_photos(self) -> list[Photo]:
        """Read the boxes; the last ``photos_kept`` photos of a class in seeded order are for evaluation only."""
        photos = read_tiny_imagenet(find_root(self.root, DOWNLOAD))
        order = self._seeded_order(photos).values()
        kept = {name for names in order for name in names[max(0, len(names) - self.photos_kept) :]}
        return [photo._replace(evaluation_only=photo.name in kept) for photo in photos]

    def setup(self, stage: str) -> None:
        """Decode all photos (seconds), so that workers share them, and check the splits of this stage."""
        super().setup(stage)
        _ = self.images

    def titles(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return a readable name of each class, such as "tarantula"."""
        titles = read_titles(find_root(self.root, DOWNLOAD))
        return tuple(titles[name] for name in classes)

    def protocol(self, split: str) -> dict:
        """Say how a split was evaluated, for the result file."""
        return {**super().protocol(split), "canvas": self.mosaic.canvas, "distractors": self.mosaic.distractors}

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val" or "test"."""
        return self._batch(index) if split == "train" else self._task(split, index)

    @cached_property
    def images(self) -> np.ndarray:
        """All photos, decoded: ``(P, 64, 64, 3)`` uint8, in the catalogue's order."""
        with ThreadPoolExecutor(2) as pool:
            return np.stack(list(pool.map(_decode, (photo.path for photo in self.catalog.photos.values()))))

    def _batch(self, index: int) -> Episode:
        rng, (rows, labels) = self.rng("train", index, "batch"), self._training_rows
        canvases, boxes, targets = [], [], []
        for _ in range(self.batch_size):
            drawn = rng.choice(len(rows), 1 + int(rng.integers(self.mosaic.max_photos)), replace=False)
            canvas, placed = self._compose(rows[drawn], rows, rng, mirror=True)
            canvases.append(jitter_colors(canvas, rng) if self.mosaic.color else canvas)
            boxes.append(torch.from_numpy(placed))
            targets.append(torch.from_numpy(labels[drawn]))
        names = tuple(f"train-{index}-{i}" for i in range(self.batch_size))
        query, classes = Examples(_stack(canvases), targets, boxes, names=names), self.class_names()
        return Episode(
            support=None,
            query=query,
            classes=classes,
            index=index,
            class_ids=tuple(range(len(classes))),
            protocol="batch",
        )

    def _task(self, split: str, index: int) -> Episode:
        plan, rng = self.plan(split, index), self.rng(split, index, "mosaics")
        names = self.catalog.split_classes[split]
        others = [self._rows(photos) for name, photos in self.items(split).items() if name not in plan.classes]
        outside = np.concatenate(others) if others else np.zeros(0, np.int64)
        support = self._examples(
            drawn=plan.support, outside=outside, distractors=min(1, self.mosaic.distractors), rng=rng
        )
        query = self._examples(drawn=plan.query, outside=outside, distractors=self.mosaic.distractors, rng=rng)
        return Episode(
            support=support,
            query=query,
            classes=plan.classes,
            index=index,
            class_ids=tuple(names.index(name) for name in plan.classes),
        )

    def _examples(self, drawn: tuple, outside: np.ndarray, distractors: int, rng: np.random.Generator) -> Examples:
        """One canvas an item: the item's photo, labelled, and up to ``distractors`` photos from ``outside``."""
        canvases, boxes = [], []
        shown = [(label, name) for label, names in enumerate(drawn) for name in names]
        for _, name in shown:
            rows = self._rows([name])
            count = int(rng.integers(distractors + 1)) if len(outside) else 0
            rows = np.concatenate([rows, rng.choice(outside, count)]) if count else rows
            canvas, placed = self._compose(rows, outside if len(outside) else rows, rng)
            canvases.append(canvas)
            boxes.append(torch.from_numpy(placed[:1]))
        labels = [torch.tensor([label]) for label, _ in shown]
        return Examples(_stack(canvases, self.mosaic.canvas), labels, boxes, names=tuple(name for _, name in shown))

    def _compose(self, rows: np.ndarray, ground: np.ndarray, rng: np.random.Generator, mirror: bool = False):
        backdrop = self.images[rng.choice(ground)]
        return compose(
            photos=self.images[rows],
            boxes=self._boxes[rows],
            backdrop=backdrop,
            size=self.mosaic.canvas,
            rng=rng,
            mirror=mirror,
        )

    @cached_property
    def _training_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training photos and the label of each, class by class, in seeded order."""
        training, order = set(self.training_names), self._seeded_order(list(self.catalog.photos.values()))
        rows = [self._rows([n for n in order[wnid] if n in training]) for wnid in self.class_names()]
        if not len(training) > self.mosaic.max_photos:
            raise ValueError(f"photos_kept is {self.photos_kept}, which leaves {len(training)} training photos")
        return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(r) for r in rows])

    def _seeded_order(self, photos: Sequence[Photo]) -> dict[str, list[str]]:
        """Return the photos of each class in an order that the seed draws."""
        names: dict[str, list[str]] = {}
        for photo in photos:
            names.setdefault(photo.classes[0], []).append(photo.name)
        for wnid, listed in names.items():
            order = episode_rng(self.seed, "held out", int(wnid[1:])).permutation(np.arange(len(listed)))
            names[wnid] = [listed[i] for i in order]
        return names

    @cached_property
    def _boxes(self) -> np.ndarray:
        return np.concatenate([photo.boxes for photo in self.catalog.photos.values()])

    @cached_property
    def _row(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.catalog.photos)}

    def _rows(self, names: Sequence[str]) -> np.ndarray:
        return np.array([self._row[name] for name in names], np.int64)


def _decode(path: Path) -> np.ndarray:
    photo = read_image(path)
    if photo.shape[:2] != (SIDE, SIDE):
        width, height = photo.shape[1::-1]
        raise ValueError(f"image {path} has {width}x{height} pixels but Tiny-ImageNet has {SIDE}x{SIDE}")
    return photo


def _stack(canvases: list[np.ndarray], size: int = 0) -> torch.Tensor:
    if not canvases:
        return torch.zeros(0, 3, size, size, dtype=torch.uint8)
    return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).contiguous()
