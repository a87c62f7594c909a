"""PASCAL VOC 2007 and 2012 (Everingham et al.): photos with boxes of 20 classes, one XML file a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np

from datamodules.detection.base import PhotoDetection
from datamodules.images.boxed_photo import Photo
from datamodules.images.reading import SkippedItems, clean_boxes
from datamodules.images.roots import Download, find_root

YEARS = ("VOC2007", "VOC2012")
DOWNLOAD = Download(
    folder="VOCdevkit",
    needs=tuple(
        f"{year}/{part}" for year in YEARS for part in ("Annotations", "JPEGImages", "ImageSets/Main/trainval.txt")
    ),
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
        difficult: Keep objects marked difficult; VOC's own evaluation leaves them out.
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

    def read_photos(self) -> list[Photo]:
        """Read the photos that the lists name; those of a test list are held out."""
        folder, skipped = find_root(self.root, DOWNLOAD), SkippedItems()
        photos = []
        for year in YEARS:
            lists = {part: _read_list(folder / year / f"ImageSets/Main/{part}.txt") for part in ("trainval", "test")}
            for name in sorted({*lists["trainval"], *lists["test"]}):
                table = folder / year / f"Annotations/{name}.xml"
                evaluation_only = name in lists["test"] and name not in lists["trainval"]
                image = folder / year / f"JPEGImages/{name}.jpg"
                photos.append(read_xml(table, image, skipped, self.difficult)._replace(evaluation_only=evaluation_only))
        skipped.warn("boxes of PASCAL VOC")
        return photos


def read_xml(table: Path, image: Path, skipped: SkippedItems, difficult: bool = False) -> Photo:
    """Read one annotation in VOC's XML layout (ILSVRC uses it too); unusable boxes go to ``skipped``.

    VOC counts pixels from 1 and includes the last one: its box (1, 1, w, h) is (0, 0, w, h) here.

    Raises:
        ValueError: The file is truncated or no such XML.
    """
    try:
        tree = ElementTree.parse(table).getroot()
        objects = [o for o in tree.iter("object") if difficult or o.findtext("difficult", "0").strip() != "1"]
        corners = [[float(o.find("bndbox").findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
        width, height = (int(tree.find("size").findtext(k)) for k in ("width", "height"))
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"annotation {table} is truncated or not in VOC's layout: {error!r}") from error
    boxes = np.array(corners, np.float32).reshape(-1, 4) - np.array([1, 1, 0, 0], np.float32)
    boxes, bad = clean_boxes(boxes, width, height)
    for i, reason in bad.items():
        skipped.add(f"{table.name} object {i + 1}", reason)
    kept = [i for i in range(len(objects)) if i not in bad]
    classes = tuple(objects[i].findtext("name", "").strip() for i in kept)
    return Photo(name=image.name, path=image, boxes=boxes[kept], classes=classes, size=(width, height))


def _read_list(path: Path) -> set[str]:
    return {line.split()[0] for line in path.read_text().splitlines() if line.strip()} if path.exists() else set()
