"""ImageNet-LOC (Russakovsky et al. 2015) with RepMet's classes and published test episodes (Karlinsky et al. 2019).

RepMet (section 5.2) trains on the first 100 classes, in ILSVRC2012's own order, and tests on 214 other animals. Its
benchmark numbers classes in the same order, but images by a position in an index that was not published.

Deviation: an image number is taken relative to the smallest number that the file gives for its class, as a position
in the class's sorted list of annotated photos, modulo its length; a photo that the episode has already used gives way
to the next one. So classes and counts are RepMet's, the photos are not the very same. The published 5- and 10-shot
lists count objects: a support photo with several of them stands for several shots, and all are labelled.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

from datamodules.detection.base import PhotoDetection
from datamodules.detection.voc import read_xml
from datamodules.images.boxed_photo import Photo
from datamodules.images.catalog import PhotoSplits
from datamodules.images.reading import SkippedItems
from datamodules.images.roots import Download, find_root
from lightning_fewshot.folders import data_files
from lightning_fewshot.sampling import EpisodePlan
from lightning_fewshot.text import read_json

DOWNLOAD = Download(
    folder="ILSVRC",
    needs=("Data/CLS-LOC/train/n*", "Annotations/CLS-LOC/train/n*"),
    what="imagenet_object_localization_patched2019.tar.gz",
    source="Kaggle, https://www.kaggle.com/c/imagenet-object-localization-challenge,",
)
CLASSES_FILE = Path(__file__).with_name("imagenet_loc_classes.json")


class ImageNetLoc(PhotoDetection):
    """Few-shot detection on ImageNet-LOC with RepMet's split.

    ``n_way: 50, episodes: {test: 1}`` is the protocol of LSTD's task 1 (RepMet, table 2).

    Args:
        root: Folder that holds ``ILSVRC``, or that folder; None: FEWSHOT_DATA.
        splits: By default a tenth of the photos is held out, for validation and for testing on seen classes. Its
            ``episodes_file`` is RepMet's ``episodes_{1,5,10}shot.json``, or a list in this project's own format.
        options: See PhotoDetection.
    """

    def __init__(self, root: str | None = None, splits: PhotoSplits = PhotoSplits(held_out=0.1), **options) -> None:
        super().__init__(root, splits=splits, **options)

    def benchmark_names(self) -> tuple[str, ...]:
        """Return RepMet's 214 novel classes (WordNet ids)."""
        return tuple(read_classes()["novel"].values())

    def base_names(self) -> tuple[str, ...]:
        """Return RepMet's 100 training classes (WordNet ids)."""
        return tuple(read_classes()["train"].values())

    def read_photos(self) -> list[Photo]:
        """Read the annotations of all classes of the split that are on disk (about 150000 files: a minute)."""
        folder, skipped, photos = find_root(self.root, DOWNLOAD), SkippedItems(), []
        for wnid in sorted({*self.base_names(), *self.benchmark_names()}):
            images = folder / "Data/CLS-LOC/train" / wnid
            for table in data_files(folder / "Annotations/CLS-LOC/train" / wnid, (".xml",), deep=False):
                photos.append(read_xml(table, images / f"{table.stem}.JPEG", skipped))
        skipped.warn("boxes of ImageNet-LOC")
        return photos

    def read_plans(self, path: str) -> list[EpisodePlan]:
        """Read RepMet's list, or one of this project's."""
        record = read_json(path)
        if isinstance(record, dict):
            return super().read_plans(path)
        return plan_published(record, self.sorted_names, path)

    @cached_property
    def sorted_names(self) -> dict[str, list[str]]:
        """The photos of each class of the published episodes, sorted."""
        names: dict[str, list[str]] = {wnid: [] for wnid in self.benchmark_names()}
        for photo in self.catalog.photos.values():
            for wnid in set(photo.classes).intersection(names):
                names[wnid].append(photo.name)
        return {wnid: sorted(listed) for wnid, listed in names.items()}


def read_classes() -> dict[str, dict[int, str]]:
    """Return RepMet's "train" and "novel" classes: ILSVRC2012_ID to WordNet id.

    >>> {split: len(classes) for split, classes in read_classes().items()}, read_classes()["novel"][102]
    ({'train': 100, 'novel': 214}, 'n02114548')
    """
    record = json.loads(CLASSES_FILE.read_text())
    return {split: {int(i): wnid for i, wnid in record[split].items()} for split in ("train", "novel")}


def plan_published(record: list[dict], photos: dict[str, list[str]], path: str) -> list[EpisodePlan]:
    """Turn RepMet's published episodes into plans; see the head of this file for what cannot be kept.

    Args:
        record: The parsed file.
        photos: Sorted photo names of each class.
        path: The file, for errors.

    Raises:
        ValueError: An entry is not as published, or a class has fewer photos than its episode uses.
    """
    wnids = read_classes()["novel"]
    first: dict[int, int] = {}
    try:
        for entry in record:
            for part in ("query_images", "train_nImg"):
                for number, images in entry[part].items():
                    if not all(type(image) is int for image in images):
                        raise TypeError(f"images of class {number} are no numbers")
                    first[int(number)] = min([*images, first.get(int(number), min(images, default=2**62))])
        return [_plan(entry, wnids, photos, first) for entry in record]
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"{path} is not one of RepMet's episode lists: {error!r}") from error


def _plan(entry: dict, wnids: dict[int, str], photos: dict[str, list[str]], first: dict[int, int]) -> EpisodePlan:
    numbers, used = entry["epi_cats"], set()
    parts = [
        tuple(_take(photos[wnids[n]], [i - first[n] for i in entry[part][str(n)]], used, wnids[n]) for n in numbers)
        for part in ("train_nImg", "query_images")
    ]
    return EpisodePlan(tuple(wnids[n] for n in numbers), *parts)


def _take(names: list[str], positions: list[int], used: set[str], wnid: str) -> tuple[str, ...]:
    """Choose the photos at these positions (modulo); a used one gives way to the next."""
    taken = []
    for position in positions:
        candidates = (names[(position + step) % len(names)] for step in range(len(names)))
        name = next((n for n in candidates if n not in used), None)
        if name is None:
            raise ValueError(f"class {wnid!r} has {len(names)} photos, too few for a published episode")
        used.add(name)
        taken.append(name)
    return tuple(taken)
