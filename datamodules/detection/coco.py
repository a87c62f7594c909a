"""COCO (Lin et al. 2014): photos with boxes of 80 classes; train on train2017, evaluate on val2017."""

from __future__ import annotations

from datamodules.detection.base import PhotoDetection
from datamodules.images.boxed_photo import Photo
from datamodules.images.coco import NOVEL_CLASSES, read_coco_photos


class CocoDetection(PhotoDetection):
    """Few-shot detection on COCO (folder ``coco``); novel are the 20 classes that it shares with PASCAL VOC."""

    def benchmark_names(self) -> tuple[str, ...]:
        """Return the classes kept for testing."""
        return NOVEL_CLASSES

    def read_photos(self) -> list[Photo]:
        """Read both parts."""
        return read_coco_photos(self.root)
