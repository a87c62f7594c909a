"""Photos with boxes in YOLO's layout, such as coco128."""

from __future__ import annotations

from datamodules.detection.base import PhotoDetection
from datamodules.images.boxed_photo import Photo
from datamodules.images.coco import NOVEL_CLASSES
from datamodules.images.yolo import read_yolo_photos


class YoloDetection(PhotoDetection):
    """Few-shot detection on photos in YOLO's layout (folder ``coco128``, or one of that layout).

    Novel are the 20 classes that COCO shares with PASCAL VOC. ``images/val*`` is kept out of training.
    """

    def benchmark_names(self) -> tuple[str, ...]:
        """Return the classes kept for testing."""
        return NOVEL_CLASSES

    def read_photos(self) -> list[Photo]:
        """Read all label files."""
        return read_yolo_photos(self.root)
