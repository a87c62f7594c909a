"""Photos kept separate: those that show a class evaluated are asked, and all others train."""

import pytest
from makers import load

from datamodules.detection.coco import CocoDetection
from datamodules.images.catalog import PhotoSplits

CLASSES = ["person", "bicycle", "car", "zebra", "giraffe", "kite", "fork"]  # the first three are novel


def test_separate_photos_show_no_evaluated_class_in_training_and_are_all_used(tmp_path):
    root = load("photos").make_coco(tmp_path, CLASSES, 12)
    splits = PhotoSplits(val_classes=1, separate=True)
    data = CocoDetection(str(root), n_way=2, n_query=2, k_shot=1, batch_size=4, seed=3, splits=splits)
    catalog = data.catalog
    kept_out = {*catalog.split_classes["val"], *catalog.split_classes["test"]}
    expected = {p.name for p in catalog.photos.values() if not kept_out & set(p.classes)}
    assert set(data.training_names) == expected
    assert any(catalog.photos[name].evaluation_only for name in expected)  # of val2017
    asked = {name for names in catalog.photos_of("test").values() for name in names}
    assert asked == {p.name for p in catalog.photos.values() if set(catalog.split_classes["test"]) & set(p.classes)}


def test_separate_and_spare_photos_exclude_each_other():
    with pytest.raises(ValueError, match="separate and train_on_spare are both True"):
        PhotoSplits(separate=True, train_on_spare=True)
