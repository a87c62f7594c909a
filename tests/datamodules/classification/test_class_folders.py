"""What is wrong with folders of class images, and what is passed over."""

import shutil

import numpy as np
import pytest
import torch
from class_folders import CLOSED, folder_data, make
from PIL import Image

from datamodules.classification.settings import ClassSplits, ImageSettings
from datamodules.classification.training import ClassBatch
from lightning_fewshot.data import EpisodeCounts


def test_a_class_with_fewer_images_than_a_batch_takes(folder):
    for i in range(1, 6):
        (folder / f"class3/{i:04d}.jpg").unlink()
    data = folder_data(
        folder, splits=ClassSplits("closed", val_images=0, test_images=0), episodes=EpisodeCounts(4, 0, 0)
    )
    with pytest.warns(UserWarning, match=r"1 classes have fewer training images than per_class 4.*class3 \(1\)"):
        data.setup("fit")
    names = [name for i in range(4) for name in data.episode("train", i).query.names if "class3" in name]
    assert set(names) == {"class3/0000.jpg"}


def test_one_class_only(tmp_path):
    make.make_folders(tmp_path / "one", classes=1)
    with pytest.raises(ValueError, match=r"1 class \(class0\) but 2 are the fewest"):
        folder_data(tmp_path / "one").setup("fit")


def test_corrupt_files_are_skipped_counted_and_listed(folder):
    (folder / "class0/broken.jpg").write_bytes(b"not a picture")
    whole = (folder / "class0/0000.jpg").read_bytes()
    (folder / "class1/half.jpg").write_bytes(whole[: len(whole) // 2])
    data = folder_data(folder)
    with pytest.warns(UserWarning, match="skipped 2 images that cannot be read: class0/broken.jpg"):
        data.setup("fit")
    assert len(data.listed[0]) == 48
    clean = folder_data_without(folder).episode("test", 0)
    assert torch.equal(data.episode("test", 0).query.images, clean.query.images)


def folder_data_without(folder):
    for name in ("class0/broken.jpg", "class1/half.jpg"):
        (folder / name).unlink()
    return folder_data(folder)


def test_other_files_are_skipped_counted_and_listed(folder):
    (folder / "class0/notes.txt").write_text("mine")
    shutil.copy(folder / "class0/0000.jpg", folder / "loose.jpg")
    with pytest.warns(UserWarning, match=r"skipped 2 files .*notes.txt \(no image\).*loose.jpg \(in no class folder\)"):
        assert len(folder_data(folder).listed[0]) == 48


@pytest.mark.parametrize(
    "litter", ["class0/._0000.jpg", "class0/.DS_Store", "class0/Thumbs.db", "__MACOSX/class0/a.jpg"]
)
def test_litter_of_operating_systems_is_passed_over(folder, litter, recwarn):
    path = folder / litter
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x00\x05\x16\x07")
    data = folder_data(folder)
    data.setup("fit")
    assert len(data.listed[0]) == 48
    assert not [w for w in recwarn if "skipped" in str(w.message)]


def test_upper_case_suffixes(tmp_path):
    make.make_folders(tmp_path / "upper", suffix=".JPG")
    assert len(folder_data(tmp_path / "upper").listed[0]) == 48


def test_nested_class_folders(folder):
    """A class is called by the path of its folder."""
    (folder / "group").mkdir()
    shutil.move(folder / "class7", folder / "group/class7")
    assert "group/class7" in folder_data(folder).catalog.names


def test_folders_train_and_test_are_parts_of_a_closed_set(tmp_path):
    for part in ("train", "test"):
        make.make_folders(tmp_path / "own" / part, photos=4)
    data = folder_data(tmp_path / "own", splits=ClassSplits("closed", val_images=0.25))
    counts = {part: sum(map(len, items.values())) for part, items in data.catalog.items.items()}
    assert counts == {"train": 24, "val": 8, "test": 32}


def test_a_test_class_that_training_did_not_have(tmp_path):
    make.make_folders(tmp_path / "own/train", classes=3)
    make.make_folders(tmp_path / "own/test", classes=4)
    with pytest.raises(ValueError, match="class 'class3' has 0 training images but 6 to evaluate on"):
        folder_data(tmp_path / "own", splits=CLOSED).setup("fit")


def test_k_shot_plus_n_query_above_the_images(folder):
    with pytest.raises(ValueError, match=r"class 'class\d' of split 'val' has 6 items, .* 5 \+ 2 = 7 are needed"):
        folder_data(folder, k_shot=5).setup("fit")


def test_more_ways_than_classes(folder):
    with pytest.raises(ValueError, match="n_way is 4 but split 'val' has 3 classes"):
        folder_data(folder, n_way=4).setup("fit")


def test_more_classes_in_splits_than_there_are(folder):
    with pytest.raises(ValueError, match="9 test and 3 validation classes, but of 8"):
        folder_data(folder, splits=ClassSplits(val_classes=3, test_classes=9)).setup("fit")


def test_a_named_test_class_that_does_not_exist(folder):
    with pytest.raises(ValueError, match="test_classes has 'dog'"):
        folder_data(folder, splits=ClassSplits(val_classes=2, test_classes=("dog",))).setup("fit")


def test_more_open_queries_than_images(folder):
    with pytest.raises(ValueError, match="n_open is 4 but split 'test' has 0 images of other classes"):
        folder_data(folder, n_open=4).episode("test", 0)


def test_tasks_have_no_end(folder):
    with pytest.raises(ValueError, match=r"episodes\.val is None"):
        folder_data(folder, episodes=EpisodeCounts(1, None, 1)).setup("fit")


def test_a_closed_set_without_validation_images(folder):
    splits = ClassSplits("closed", val_images=0.0, test_images=0.3)
    with pytest.raises(ValueError, match="split 'val' has 0 images"):
        folder_data(folder, splits=splits).setup("fit")


def test_an_empty_folder(tmp_path):
    (tmp_path / "own/class").mkdir(parents=True)
    with pytest.raises(FileNotFoundError):
        folder_data(tmp_path / "own").setup("fit")


@pytest.mark.parametrize(
    ("group", "wrong"),
    [
        (ImageSettings, {"size": 4}),
        (ImageSettings, {"margin": -1}),
        (ClassSplits, {"val_classes": 0}),
        (ClassSplits, {"evaluated": "both"}),
        (ClassSplits, {"test_images": 1.0}),
        (ClassBatch, {"n_classes": 1}),
    ],
)
def test_settings_are_checked(group, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        group(**wrong)


def test_sixteen_bit_and_grey_images_are_read(folder):
    Image.fromarray((np.arange(1600).reshape(40, 40) * 40).astype(np.uint16)).save(folder / "class0/deep.png")
    Image.new("L", (50, 40), 200).save(folder / "class0/grey.png")
    assert len(folder_data(folder).listed[0]) == 50
