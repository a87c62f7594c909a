"""The cached features of the classification study: merging classes moves no image to another part."""

import sys
from pathlib import Path

import pytest
import torch
from class_folders import make

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    sys.modules.pop("classification_cached", None)
    import classification_cached

    import datamodules

    make.make_cub(tmp_path)
    make.make_grocery(tmp_path)
    monkeypatch.setenv("FEWSHOT_DATA", str(tmp_path))
    classes = {"cub": datamodules.CUB, "grocery": datamodules.Grocery}

    def features(name):
        names = [image.name for image in classes[name]().list_images()]
        return {"features": torch.arange(len(names))[:, None].float(), "names": names}

    monkeypatch.setattr(classification_cached, "features_of", features)
    return classification_cached.Cached


@pytest.mark.parametrize(("name", "merged", "count"), [("cub", "random5", 2), ("grocery", "families", 4)])
def test_merged_classes_keep_the_parts(cached, name, merged, count):
    plain, groups = cached(name, closed=True), cached(name, closed=True, merged=merged)
    assert (len(plain.classes), len(groups.classes)) == (8, count)
    for part in ("train", "val", "test", "both"):
        numbers = [sorted(n for row in data.items[part].values() for n in row) for data in (plain, groups)]
        assert numbers[0] == numbers[1]
        assert part == "val" or numbers[0]
    for row in plain.items["test"].values():
        assert sum(set(row) <= set(group) for group in groups.items["test"].values()) == 1


def test_training_images_of_a_closed_set_are_never_test_images(cached):
    data = cached("cub", closed=True)
    assert not {n for row in data.items["both"].values() for n in row} & {
        n for row in data.items["test"].values() for n in row
    }
