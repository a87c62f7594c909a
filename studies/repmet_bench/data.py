"""Two sets of photos as one kind of episode: mosaics of Tiny-ImageNet, and photos of COCO with all their objects.

Queries are drawn before supports, and the supports of one shot are among those of five and ten.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from repmet_bench.regions import BenchEpisode, Canvas, canvases, remembered, training_regions

from datamodules.detection.base import PhotoDetection
from datamodules.detection.tiny_imagenet import Mosaic, TinyImageNetMosaics
from datamodules.images.catalog import PhotoSplits
from lightning_fewshot.checkpoints import build_data
from lightning_fewshot.data import EpisodeCounts, EpisodicDataModule
from lightning_fewshot.models.repmet.plain import PlainDetector
from lightning_fewshot.sampling import episode_rng

Part = Literal["val", "test", "both", "seen"]
FEWEST = 2  # photos of a COCO class beside its queries
ATTEMPTS = 1000


class Mosaics:
    """Canvases of 160 pixels: every image of an episode is composed once, with as many shots as are asked at most.

    Args:
        detector: Frozen.
        cache: Folder.
        part: Validation classes, test classes, both together, or held-out photos of the training classes.
        way: Classes of an episode.
        shots: Most shots.
        n_query: Query canvases of a class.
    """

    def __init__(self, detector: PlainDetector, cache: Path, part: Part, way: int, shots: int, n_query: int) -> None:
        self.detector = detector
        self.cache = cache
        self.part = part
        self.settings = {"n_way": way, "k_shot": shots, "n_query": n_query}
        self.data = self._data(PhotoSplits(val_classes=20, eval_classes="seen" if part == "seen" else "novel"))
        if part == "both":
            classes = self.data.catalog.split_classes
            self.data = self._data(PhotoSplits(novel_classes=(*classes["val"], *classes["test"])))
        check_classes(detector, self.data)

    def _data(self, splits: PhotoSplits) -> TinyImageNetMosaics:
        counts = EpisodeCounts(1, 1, 1)
        mosaic = Mosaic(distractors=0)
        return TinyImageNetMosaics(batch_size=8, mosaic=mosaic, splits=splits, episodes=counts, **self.settings)

    def training(self, batches: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the regions of some training batches."""
        return training_set(self.detector, self.data, self.cache, batches)

    def episodes(self, count: int) -> Iterator[BenchEpisode]:
        """Yield the first episodes."""
        name = "x".join(map(str, self.settings.values()))
        for i in range(count):
            yield remembered(self.cache / f"{self.part} {name}/{i}.pt", lambda i=i: self._episode(i))

    def _episode(self, index: int) -> BenchEpisode:
        episode = self.data.episode("val" if self.part == "val" else "test", index)
        support, query = (
            canvases(self.detector, e.images, e.boxes, e.labels, e.names) for e in (episode.support, episode.query)
        )
        k = self.data.k_shot
        shots = [torch.full((len(c.labels),), i % k) for i, c in enumerate(support)]  # classes follow one another
        return BenchEpisode(episode.classes, support, shots, query)


class CocoPhotos:
    """Photos of COCO as they are. A shot is an object; a query photo has all objects of the episode's classes.

    The shots of a class are the largest objects of its support photos, one a photo, then the second largest, and so
    on; a class that has no k objects beside its queries has fewer shots. Regions of a photo are computed once.

    Args:
        checkpoint: Of the detector, which says which classes and photos it was not trained on.
        detector: Frozen.
        cache: Folder.
        part: "test", or "seen": held-out photos of the training classes.
        way: Classes of an episode; 0: one episode of all classes and all photos, without support.
        shots: Most shots.
        n_query: Query photos of a class.
    """

    def __init__(
        self, checkpoint: str, detector: PlainDetector, cache: Path, part: Part, way: int, shots: int, n_query: int
    ) -> None:
        if part not in ("test", "seen"):
            raise ValueError(f"--part is {part!r} but the photos of COCO have 'test' and 'seen' only")
        self.detector = detector
        self.cache = cache
        self.part = part
        self.way = way
        self.shots = shots
        self.n_query = n_query
        self.data = build_data(checkpoint)
        check_classes(detector, self.data)

    def training(self, batches: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the regions of some training batches."""
        return training_set(self.detector, self.data, self.cache, batches)

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """The photos of each class that episodes are drawn from."""
        catalog = self.data.catalog
        classes = catalog.split_classes["train" if self.part == "seen" else "test"]
        training = set(catalog.training_names)
        photos = [p for p in catalog.photos.values() if p.name not in training]
        held = {name: [p.name for p in photos if name in p.classes] for name in classes}
        needed = self.n_query + FEWEST if self.way else 1
        return {name: names for name, names in held.items() if len(names) >= needed}

    @cached_property
    def photos(self) -> dict[str, Canvas]:
        """The regions of all these photos; labels are places in ``names``."""
        return remembered(self.cache / f"{self.part} photos {self.n_query if self.way else 'all'}.pt", self._regions)

    def _regions(self) -> dict[str, Canvas]:
        data: PhotoDetection = self.data
        wanted, classes = sorted({n for names in self.names.values() for n in names}), tuple(self.names)
        photos = [data.catalog.photos[name] for name in wanted]
        labelled = [[i for i, c in enumerate(photo.classes) if c in classes] for photo in photos]
        examples = data.examples(photos, labelled, classes)
        found = canvases(self.detector, examples.images, examples.boxes, examples.labels, wanted)
        return {canvas.name: canvas for canvas in found}

    def episodes(self, count: int) -> Iterator[BenchEpisode]:
        """Yield the first episodes."""
        if not self.way:
            yield BenchEpisode(tuple(self.names), [], [], list(self.photos.values()))
            return
        yield from (self._episode(i) for i in range(count))

    def _episode(self, index: int) -> BenchEpisode:
        classes, query, support = self._plan(episode_rng(0, self.part, index, "objects"))
        places = [list(self.names).index(name) for name in classes]
        asked = [_relabelled(self.photos[name], places) for names in query for name in names]
        shown = [self._shots(names, place) for names, place in zip(support, places, strict=True)]
        canvas = [
            self.photos[name].of_objects(rows, torch.full_like(rows, label))
            for label, objects in enumerate(shown)
            for name, (rows, _) in objects.items()
        ]
        return BenchEpisode(classes, canvas, [numbers for objects in shown for _, numbers in objects.values()], asked)

    def _plan(self, rng: np.random.Generator) -> tuple[tuple[str, ...], list, list]:
        """Draw classes, and of each query photos and, of what is left, support photos; no photo serves twice."""
        for _ in range(ATTEMPTS):
            classes = [list(self.names)[i] for i in rng.choice(len(self.names), self.way, replace=False)]
            orders, used = [list(rng.permutation(self.names[name])) for name in classes], set()
            query = [_take(order, self.n_query, used) for order in orders]
            first = [_take(order, 1, used) for order in orders]
            if all(len(q) == self.n_query for q in query) and all(first):
                rest = [_take(order, self.shots - 1, used) for order in orders]
                return tuple(classes), query, [a + b for a, b in zip(first, rest, strict=True)]
        raise ValueError(f"no {self.way} of {len(self.names)} classes have {self.n_query} query photos of their own")

    def _shots(self, names: list[str], place: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Return of each photo the rows of the objects that are shots, and their numbers."""
        ranked = []
        for order, name in enumerate(names):
            canvas = self.photos[name]
            rows = (canvas.labels == place).nonzero()[:, 0]
            area = (canvas.boxes[rows, 2:] - canvas.boxes[rows, :2]).prod(1)
            ranked += [
                (rank, order, name, row) for rank, row in enumerate(rows[area.argsort(descending=True)].tolist())
            ]
        kept: dict[str, list[tuple[int, int]]] = {}
        for number, (_, _, name, row) in enumerate(sorted(ranked)[: self.shots]):
            kept.setdefault(name, []).append((row, number))
        return {name: tuple(torch.tensor(part) for part in zip(*rows, strict=True)) for name, rows in kept.items()}


def check_classes(detector: PlainDetector, data: EpisodicDataModule) -> None:
    """Refuse a detector that was trained on other classes than these data hold out."""
    if tuple(detector.classes) != tuple(data.class_names()):
        raise ValueError(
            f"the detector has {len(detector.classes)} training classes but the data has {len(data.class_names())}, "
            "or others: give a checkpoint of these data"
        )


def training_set(
    detector: PlainDetector, data: EpisodicDataModule, cache: Path, batches: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pooled regions and labels of the first training batches."""
    parts = [
        remembered(cache / f"train/{i}.pt", lambda i=i: training_regions(detector, data.episode("train", i)))
        for i in range(batches)
    ]
    return torch.cat([p for p, _ in parts]), torch.cat([n for _, n in parts])


def _take(order: list[str], count: int, used: set[str]) -> list[str]:
    free = [str(name) for name in order if name not in used][:count]
    used.update(free)
    return free


def _relabelled(canvas: Canvas, places: list[int]) -> Canvas:
    """Return a photo with the objects of an episode's classes only, labelled by their places in it."""
    rows = torch.isin(canvas.labels, torch.tensor(places)).nonzero()[:, 0]
    labels = torch.tensor([places.index(int(label)) for label in canvas.labels[rows]], dtype=torch.int64)
    return canvas.of_objects(rows, labels)
