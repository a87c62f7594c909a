"""Tiny-ImageNet with its object boxes, composed into mosaics so that boxes do not fill the image.

Tiny-ImageNet (Stanford CS231n) has 64 x 64 photos of 200 classes with one box each. RepMet's (Karlinsky et al. 2019,
section 5.2) novel classes are kept for testing: 22 of its 214 are in Tiny-ImageNet. A validation set of classes is
drawn from the others by seed; the rest is for training.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from datamodules.detection.mosaics import compose
from datamodules.images.augmentation import jitter_colors
from datamodules.images.reading import SkippedItems, clean_boxes, read_photo
from datamodules.images.roots import Download, find_root
from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.sampling import EpisodePlan, EpisodeSampler, episode_rng, read_episodes

DOWNLOAD = Download(
    "tiny-imagenet-200",
    ("train/n*/*_boxes.txt", "words.txt"),
    "tiny-imagenet-200.zip",
    "Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip,",
)
# The classes of Tiny-ImageNet among the 214 novel ones of RepMet's published benchmark (its class list, by WordNet id).
NOVEL_WNIDS = (
    "n01629819",
    "n01641577",
    "n01644900",
    "n01742172",
    "n01774750",
    "n01855672",
    "n01882714",
    "n02002724",
    "n02056570",
    "n02058221",
    "n02085620",
    "n02099601",
    "n02099712",
    "n02106662",
    "n02113799",
    "n02123045",
    "n02129165",
    "n02395406",
    "n02403003",
    "n02410509",
    "n02437312",
    "n02486410",
)


class TinyPhotos(NamedTuple):
    """All photos of the data set.

    Args:
        images: ``(P, 64, 64, 3)`` uint8.
        boxes: ``(P, 4)`` float32.
        names: File names.
        rows: The photos of each class (WordNet id), by file name.
        titles: A readable name of each class.
    """

    images: np.ndarray
    boxes: np.ndarray
    names: tuple[str, ...]
    rows: dict[str, np.ndarray]
    titles: dict[str, str]


class TinyImageNetMosaics(EpisodicDataModule):
    """Tiny-ImageNet photos at random scales on one canvas.

    Training episodes are batches of canvases with 1 to ``max_photos`` photos, every object labelled with its training
    class. An evaluation episode has a canvas a shot (one labelled photo, and at most one photo of a class outside the
    episode), and a canvas a query photo: with up to ``distractors`` photos of classes outside the episode, unlabelled.

    Args:
        root: Folder that holds ``tiny-imagenet-200``, or that folder; None: FEWSHOT_DATA.
        batch_size: Canvases of a training batch.
        canvas: Side of a canvas in pixels.
        max_photos: Most photos on a training canvas.
        distractors: Most photos of other classes of the split on a query canvas.
        val_classes: Classes kept for validation, drawn by ``seed`` from those that are not novel.
        held_out: Photos of each training class never used in training, for ``eval_classes: seen``.
        eval_classes: "novel": test on RepMet's novel classes; "seen": on held-out photos of the training classes.
        color: Color augmentation in training.
        episodes_file: A list of test episodes to use as it is (see ``write_episodes``); items are photo file names.
        n_way: Classes of a validation or test episode.
        k_shot: Support photos of each class.
        n_query: Query photos of each class.
        episodes: Episodes of training, validation and test.
        seed: Everything is a function of (seed, split, index).
        num_workers: Processes that prepare episodes.

    Raises:
        FileNotFoundError: There is no such data, on first use; says what to download.
        ValueError: ``n_way`` above the classes of a split, or too few photos for an episode.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 16,
        canvas: int = 160,
        max_photos: int = 4,
        distractors: int = 2,
        val_classes: int = 20,
        held_out: int = 15,
        eval_classes: Literal["novel", "seen"] = "novel",
        color: bool = True,
        episodes_file: str | None = None,
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 10,
        episodes: EpisodeCounts = EpisodeCounts(1000, 20, 200),
        seed: int = 0,
        num_workers: int = 1,
    ) -> None:
        super().__init__(
            n_way=n_way, k_shot=k_shot, n_query=n_query, episodes=episodes, seed=seed, num_workers=num_workers
        )
        if not 1 <= max_photos <= 4:
            raise ValueError(f"max_photos is {max_photos} but must be 1 to 4")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size} but must be at least 1")
        self.root, self.batch_size, self.canvas = root, batch_size, canvas
        self.max_photos, self.distractors, self.color = max_photos, distractors, color
        self.val_classes, self.held_out, self.eval_classes = val_classes, held_out, eval_classes
        self._samplers: dict[str, EpisodeSampler] = {}
        self.plans: list[EpisodePlan] | None = None
        if episodes_file is not None:
            self.plans = read_episodes(episodes_file)
            self.counts["test"] = min(self.counts["test"], len(self.plans))

    def setup(self, stage: str) -> None:
        """Decode all photos (seconds), so that workers share them, and check the splits of this stage."""
        for split in {"fit": ("val",), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            if split == "val" or self.plans is None:
                self._sampler(split)

    def class_names(self) -> tuple[str, ...]:
        """Return the training classes, sorted (WordNet ids)."""
        return self.split_classes["train"]

    def titles(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Return a readable name of each class, such as "tarantula"."""
        return tuple(self.photos.titles[name] for name in classes)

    def protocol(self, split: str) -> dict:
        """Say how a split was evaluated, for the result file."""
        more = {"eval_classes": self.eval_classes, "canvas": self.canvas, "distractors": self.distractors}
        return {**super().protocol(split), **more}

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val" or "test"."""
        return self._batch(index) if split == "train" else self._task(split, index)

    @cached_property
    def photos(self) -> TinyPhotos:
        """All photos, decoded."""
        return read_tiny_imagenet(find_root(self.root, DOWNLOAD))

    @cached_property
    def split_classes(self) -> dict[str, tuple[str, ...]]:
        """The classes of each split, sorted and disjoint (unless testing on seen classes)."""
        names = set(self.photos.rows)
        others = sorted(names.difference(NOVEL_WNIDS))
        if self.val_classes >= len(others):
            raise ValueError(
                f"val_classes is {self.val_classes} but there are {len(others)} classes that are not novel"
            )
        drawn = episode_rng(self.seed, "classes", 0).choice(len(others), self.val_classes, replace=False)
        val = {others[i] for i in drawn}
        train = tuple(name for name in others if name not in val)
        test = train if self.eval_classes == "seen" else tuple(sorted(names.intersection(NOVEL_WNIDS)))
        return {"train": train, "val": tuple(sorted(val)), "test": test}

    @cached_property
    def split_rows(self) -> dict[str, dict[str, np.ndarray]]:
        """The photos of each class of each split. The last ``held_out`` of a class in seeded order are held out."""
        rows = {split: {n: self.photos.rows[n] for n in names} for split, names in self.split_classes.items()}
        shuffled = {n: self._shuffled(n, r) for n, r in rows["train"].items()}
        rows["train"] = {n: r[: max(0, len(r) - self.held_out)] for n, r in shuffled.items()}
        if self.eval_classes == "seen":
            rows["test"] = {n: r[max(0, len(r) - self.held_out) :] for n, r in shuffled.items()}
        return rows

    def _sampler(self, split: str) -> EpisodeSampler:
        if split not in self._samplers:
            items = {name: [int(r) for r in rows] for name, rows in self.split_rows[split].items()}
            self._samplers[split] = EpisodeSampler(items, self.n_way, self.k_shot, self.n_query, self.seed, split)
        return self._samplers[split]

    def _shuffled(self, name: str, rows: np.ndarray) -> np.ndarray:
        return episode_rng(self.seed, "held out", int(name[1:])).permutation(rows)

    def _batch(self, index: int) -> Episode:
        rng = self.rng("train", index, "batch")
        rows, labels = self._training_rows
        canvases, boxes, targets = [], [], []
        for _ in range(self.batch_size):
            drawn = rng.choice(len(rows), 1 + int(rng.integers(self.max_photos)), replace=False)
            canvas, found = self._compose(rows[drawn], rows, rng, mirror=True)
            canvases.append(jitter_colors(canvas, rng) if self.color else canvas)
            boxes.append(torch.from_numpy(found))
            targets.append(torch.from_numpy(labels[drawn]))
        names = tuple(f"train-{index}-{i}" for i in range(self.batch_size))
        query = Examples(_stack(canvases), targets, boxes, names=names)
        return Episode(None, query, self.class_names(), index, tuple(range(len(self.class_names()))))

    @cached_property
    def _training_rows(self) -> tuple[np.ndarray, np.ndarray]:
        rows = [self.split_rows["train"][name] for name in self.class_names()]
        if not sum(len(r) for r in rows) > self.max_photos:
            raise ValueError(f"held_out is {self.held_out}, which leaves {sum(len(r) for r in rows)} training photos")
        return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(r) for r in rows])

    def _task(self, split: str, index: int) -> Episode:
        plan = self._plan(split, index)
        rng = self.rng(split, index, "mosaics")
        others = [rows for name, rows in self.split_rows[split].items() if name not in plan.classes]
        outside = np.concatenate(others) if others else np.zeros(0, np.int64)
        support = self._examples(plan.support, outside, min(1, self.distractors), rng)
        query = self._examples(plan.query, outside, self.distractors, rng)
        numbers = tuple(self.split_classes[split].index(name) for name in plan.classes)
        return Episode(support, query, plan.classes, index, numbers)

    def _plan(self, split: str, index: int) -> EpisodePlan:
        if split != "test" or self.plans is None:
            return self._sampler(split)[index]
        plan, row = self.plans[index], {name: i for i, name in enumerate(self.photos.names)}
        try:
            support, query = (tuple(tuple(row[n] for n in names) for names in part) for part in plan[1:])
        except KeyError as error:
            raise ValueError(
                f"episode {index} of episodes_file names photo {error}, which the data set lacks"
            ) from None
        return EpisodePlan(plan.classes, support, query)

    def _examples(self, drawn: tuple, outside: np.ndarray, distractors: int, rng: np.random.Generator) -> Examples:
        """One canvas an item: the item's photo, labelled, and up to ``distractors`` photos from ``outside``."""
        canvases, boxes, labels, names = [], [], [], []
        for label, items in enumerate(drawn):
            for row in items:
                count = int(rng.integers(distractors + 1)) if len(outside) else 0
                rows = np.concatenate([[row], rng.choice(outside, count)]) if count else np.array([row])
                canvas, found = self._compose(rows, outside if len(outside) else rows, rng)
                canvases.append(canvas)
                boxes.append(torch.from_numpy(found[:1]))
                labels.append(torch.tensor([label]))
                names.append(self.photos.names[row])
        return Examples(_stack(canvases, self.canvas), labels, boxes, names=tuple(names))

    def _compose(self, rows: np.ndarray, ground: np.ndarray, rng: np.random.Generator, mirror: bool = False):
        backdrop = self.photos.images[rng.choice(ground)]
        return compose(self.photos.images[rows], self.photos.boxes[rows], backdrop, self.canvas, rng, mirror)


def read_tiny_imagenet(folder: Path) -> TinyPhotos:
    """Read the training part: the one with boxes and classes. Unusable boxes are skipped, counted and listed.

    Raises:
        ValueError: A photo is truncated.
    """
    files, boxes, classes, skipped = [], [], [], SkippedItems()
    for table in sorted(folder.glob("train/n*/*_boxes.txt")):
        for line in table.read_text().splitlines():
            name, *numbers = line.split()
            x1, y1, x2, y2 = map(float, numbers)
            clean, bad = clean_boxes(np.array([[x1, y1, x2 + 1, y2 + 1]]), 64, 64)  # the last pixel is inside
            path = table.parent / "images" / name
            if bad or not path.exists():
                skipped.add(name, *(bad.values() or ["no such file"]))
                continue
            files.append(path)
            boxes.append(clean[0])
            classes.append(table.parent.name)
    skipped.warn("photos of Tiny-ImageNet")
    with ThreadPoolExecutor(2) as pool:
        images = np.stack(list(pool.map(_read_64, files)))
    rows = {name: np.flatnonzero(np.array(classes) == name) for name in sorted(set(classes))}
    return TinyPhotos(images, np.stack(boxes), tuple(f.name for f in files), rows, _titles(folder))


def _read_64(path: Path) -> np.ndarray:
    photo = read_photo(path)
    if photo.shape[:2] != (64, 64):
        raise ValueError(f"image {path} has {photo.shape[1]}x{photo.shape[0]} pixels but Tiny-ImageNet has 64x64")
    return photo


def _titles(folder: Path) -> dict[str, str]:
    lines = (line.split("\t") for line in (folder / "words.txt").read_text().splitlines())
    return {wnid: words.split(",")[0] for wnid, words in lines}


def _stack(canvases: list[np.ndarray], size: int = 0) -> torch.Tensor:
    if not canvases:
        return torch.zeros(0, 3, size, size, dtype=torch.uint8)
    return torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).contiguous()
