"""One's own folder of photos: all labelled ones are the support, and all others are predicted, some at a time."""

from __future__ import annotations

import glob
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.images.photos import PhotoEpisodes
from datamodules.images.reading import SkippedItems
from datamodules.images.roots import Download, find_root
from lightning_fewshot.episodes import Episode
from lightning_fewshot.folders import IMAGE_SUFFIXES, data_files

CHUNK = 8  # images of one predicted episode


class OwnFolder(PhotoEpisodes):
    """What folders of one's own share; put it before the class of the task. All classes are novel by default.

    Args:
        root: The folder, or the one that holds it; None: FEWSHOT_DATA.
        query: What is predicted in place of the folder's unlabelled photos: a file, a folder, or a pattern such as
            ``"holiday/*.jpg"``, or a list of these.
        options: See the class of the task.
    """

    download: Download  # what the folder must hold
    nothing_labelled = "has no label"  # errors
    nothing_to_predict = "has no other photo"

    def __init__(self, root: str | None = None, query: list[str] | str | None = None, **options) -> None:
        super().__init__(root, **options)
        self.query = [query] if isinstance(query, str) else query

    @abstractmethod
    def image_files(self) -> Iterable[Path]:
        """Return all images of the folder."""

    @abstractmethod
    def shots(self) -> Sequence[Any]:
        """Return what the support of a prediction is."""

    @abstractmethod
    def predicted_episode(self, paths: Sequence[Path], index: int) -> Episode:
        """Return the episode that predicts some files."""

    def setup(self, stage: str) -> None:
        """Read the annotations; count the episodes to predict."""
        super().setup(stage)
        if stage == "predict":
            if not self.shots():
                raise ValueError(f"{self.folder}{self.nothing_labelled}: there is nothing to adapt to")
            if not self.unlabelled:
                raise ValueError(f"{self.folder} {self.nothing_to_predict} into query/")
            self.counts["predict"] = -(-len(self.unlabelled) // CHUNK)

    def benchmark_names(self) -> Sequence[str]:
        """Return the classes kept for testing: all."""
        return self.all_classes

    def episode(self, split: str, index: int) -> Episode:
        """Return episode ``index`` of "train", "val", "test" or "predict"."""
        if split != "predict":
            return super().episode(split, index)
        return self.predicted_episode(self.unlabelled[index * CHUNK : (index + 1) * CHUNK], index)

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        more = {"classes": len(self.all_classes), "shots": len(self.shots())} if split == "predict" else {}
        return {**super().protocol(split), **more}

    def advice(self) -> str:
        """Say what to do where no photo is left to train on."""
        return "set novel_classes to the classes kept for testing, so that others are left to train on"

    @cached_property
    def folder(self) -> Path:
        """The folder."""
        return find_root(self.root, self.download)

    @cached_property
    def all_classes(self) -> tuple[str, ...]:
        """The classes that some photo shows, sorted."""
        return tuple(sorted(self.catalog.shown_classes))

    @cached_property
    def unlabelled(self) -> tuple[Path, ...]:
        """The photos to predict, sorted: neither labelled themselves nor links to labelled ones.

        Raises:
            FileNotFoundError: ``query`` names something that is not there.
        """
        if self.query is not None:
            return tuple(sorted({path for text in self.query for path in images_at(text)}))
        labelled = {photo.path for photo in self.catalog.photos.values()}
        real, skipped, kept = {path.resolve() for path in labelled}, SkippedItems(), []
        for path in sorted(set(self.image_files()) - labelled):
            if path.resolve() in real:
                skipped.add(self.name_of(path), "a link to a labelled photo")
            else:
                kept.append(path)
        skipped.warn("images to predict")
        return tuple(kept)

    def name_of(self, path: Path) -> str:
        """Return the name of a file in results: its path in the folder, of others the path as it is given."""
        inside = self.folder in path.parents
        return (path.relative_to(self.folder) if inside else path).as_posix()


def images_at(text: str) -> list[Path]:
    """Return the images that a file, a folder (with the folders in it) or a pattern stands for.

    Raises:
        FileNotFoundError: There are none.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        images = list(data_files(path, IMAGE_SUFFIXES))
    else:
        images = [f for f in map(Path, glob.glob(str(path), recursive=True)) if f.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise FileNotFoundError(f"query {text} is no image, no folder with images and no pattern that fits any")
    return images
