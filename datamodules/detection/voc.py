"""PASCAL VOC 2007 and 2012 (Everingham et al.): photos with boxes of 20 classes, one XML file a photo."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.detection.base import PhotoDetection
from datamodules.images.boxed_photo import IgnoredObjects, Photo
from datamodules.images.coco_json import as_size
from datamodules.images.reading import SkippedItems, clean_boxes
from datamodules.images.roots import Download, find_root
from lightning_fewshot.images import image_size
from lightning_fewshot.text import as_number, fields, inner_path, read_lines
from lightning_fewshot.text import read_xml as read_xml_tree

YEARS = ("VOC2007", "VOC2012")
SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png")  # of photos in data sets of one's own
DOWNLOAD = Download(
    folder="VOCdevkit",
    needs=tuple(f"VOC20*/{part}" for part in ("Annotations", "JPEGImages", "ImageSets/Main/*.txt")),
    what="VOCtrainval_06-Nov-2007.tar, VOCtest_06-Nov-2007.tar and VOCtrainval_11-May-2012.tar",
    source="the PASCAL VOC project, http://host.robots.ox.ac.uk/pascal/VOC/,",
)
# The three standard splits of few-shot detection (Kang et al. 2019, section 4.1).
NOVEL_SPLITS = {
    1: ("bird", "bus", "cow", "motorbike", "sofa"),
    2: ("aeroplane", "bottle", "cow", "horse", "sofa"),
    3: ("boat", "cat", "motorbike", "sheep", "sofa"),
}


class VOCDetection(PhotoDetection):
    """Few-shot detection on PASCAL VOC: train on trainval of 2007 and 2012, evaluate on test of 2007.

    Args:
        root: Folder that holds ``VOCdevkit``, or that folder; None: FEWSHOT_DATA.
        novel_split: Which of the three standard sets of five classes is kept for testing, if ``splits`` names none.
        difficult: Take objects marked difficult like all others. Otherwise they are ignored, as in VOC's own
            evaluation: not to be found, and no error if they are.
        options: See PhotoDetection.
    """

    def __init__(
        self, root: str | None = None, novel_split: Literal[1, 2, 3] = 1, difficult: bool = False, **options
    ) -> None:
        super().__init__(root, **options)
        if novel_split not in NOVEL_SPLITS:
            raise ValueError(f"novel_split is {novel_split} but must be 1, 2 or 3")
        self.novel_split = novel_split
        self.difficult = difficult

    def benchmark_names(self) -> tuple[str, ...]:
        """Return the classes kept for testing."""
        return NOVEL_SPLITS[self.novel_split]

    def protocol(self, split: str) -> dict[str, Any]:
        """Say how a split was evaluated, for the result file."""
        return {**super().protocol(split), "crowd_and_difficult": "counted" if self.difficult else "ignored"}

    def read_photos(self) -> list[Photo]:
        """Read the photos that the lists name; those of a test list are held out."""
        folder, skipped = find_root(self.root, DOWNLOAD), SkippedItems()
        photos = []
        if missing := [year for year in YEARS if not (folder / year).is_dir()]:
            warnings.warn(f"{folder} has no {missing[0]}: its photos are left out", stacklevel=2)
        for year in YEARS:
            lists = {part: _read_list(folder / year / f"ImageSets/Main/{part}.txt") for part in ("trainval", "test")}
            for name in sorted({*lists["trainval"], *lists["test"]}):
                table = folder / year / f"Annotations/{name}.xml"
                evaluation_only = name in lists["test"] and name not in lists["trainval"]
                image = _image_of(folder / year / "JPEGImages", name)
                photos.append(read_xml(table, image, skipped, self.difficult)._replace(evaluation_only=evaluation_only))
        skipped.warn("boxes of PASCAL VOC")
        return photos


def read_xml(table: Path, image: Path, skipped: SkippedItems, difficult: bool = False) -> Photo:
    """Read one annotation in VOC's XML layout (ILSVRC uses it too); unusable objects go to ``skipped``.

    VOC counts pixels from 1 and includes the last one: its box (1, 1, w, h) is (0, 0, w, h) here. The size is that of
    the upright image where the annotation states none.

    Args:
        table: The XML file.
        image: The photo.
        skipped: Takes the others.
        difficult: Take objects marked difficult like all others; otherwise evaluation ignores them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or no such XML.
    """
    tree = read_xml_tree(table)
    if tree.tag != "annotation":
        raise ValueError(f"annotation {table} is not in VOC's layout: it is a <{tree.tag[:40]}>")
    stated = tree.find("size")
    size = None if stated is None else as_size(stated.findtext("width"), stated.findtext("height"))
    width, height = size or image_size(image)
    objects, corners = [], []
    for i, item in enumerate(tree.findall("object"), 1):
        box = item.find("bndbox")
        numbers = [None if box is None else as_number(box.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax")]
        if None in numbers or not item.findtext("name", "").strip():
            skipped.add(f"{table.name} object {i}", "no name, or no box")
            continue
        objects.append((i, item))
        corners.append(numbers)
    boxes = np.array(corners, np.float64).reshape(-1, 4) - np.array([1, 1, 0, 0])
    boxes, bad = clean_boxes(boxes, width, height)
    for i, reason in bad.items():
        skipped.add(f"{table.name} object {objects[i][0]}", reason)
    kept = [i for i in range(len(objects)) if i not in bad]
    ignored = [i for i in kept if not difficult and as_number(objects[i][1].findtext("difficult")) == 1]
    classes = [item.findtext("name", "").strip() for _, item in objects]
    photo = _photo(image, boxes, classes, counted=[i for i in kept if i not in ignored], ignored=ignored)
    return photo._replace(size=(width, height), n_skipped=len(tree.findall("object")) - len(kept))


def _photo(image: Path, boxes: np.ndarray, classes: list[str], counted: list[int], ignored: list[int]) -> Photo:
    """Return the photo of the objects that count, and those that evaluation ignores."""
    return Photo(
        name=image.name,
        path=image,
        boxes=boxes[counted],
        classes=tuple(classes[i] for i in counted),
        ignored=IgnoredObjects(boxes[ignored], tuple(classes[i] for i in ignored), np.zeros(len(ignored), bool)),
    )


def _image_of(folder: Path, name: str) -> Path:
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])


def _read_list(path: Path) -> set[str]:
    if not path.exists():
        return set()
    return {inner_path(fields(line)[0], f"{path} line {number}") for number, line in read_lines(path)}
