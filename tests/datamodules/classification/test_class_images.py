"""Class images: real layouts, splits, episodes as functions of (seed, split, i), and what is wrong with folders."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import CUB, DrawnObjects, Flowers102, Grocery, ImageFolder, MiniImageNet, Pets37, StanfordDogs
from datamodules.classification.drawn_objects import ObjectSettings
from datamodules.classification.settings import ClassSplits, ImageSettings
from datamodules.classification.training import ClassBatch, TaskTraining
from datamodules.world.scenes import SceneClasses
from lightning_fewshot.data import EpisodeCounts

_SPEC = importlib.util.spec_from_file_location("make_classes", Path(__file__).parents[2] / "data/classes/make.py")
make = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make)

SMALL = ImageSettings(size=32)
NOVEL = ClassSplits(val_classes=3, test_classes=3)
CLOSED = ClassSplits("closed", val_images=0.2, test_images=0.34)
TASK = {"n_way": 3, "k_shot": 1, "n_query": 2}
SETS = [CUB, Flowers102, Grocery, ImageFolder, MiniImageNet, Pets37, StanfordDogs]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    make.make_all(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return make.make_folders(tmp_path / "own")


def folder_data(folder, **options):
    return ImageFolder(root=str(folder), **{"images": SMALL, "splits": NOVEL, **TASK, **options})


@pytest.mark.parametrize("data_set", SETS)
def test_episodes_of_every_layout(data_set, root):
    """Images of the same class have its color, in support and query alike."""
    data = data_set(root=str(root), images=SMALL, splits=NOVEL, **TASK)
    data.setup("test")
    episode = data.episode("test", 3)
    assert episode.support.images.shape == (3, 3, 32, 32)
    assert episode.query.labels.tolist() == [0, 0, 1, 1, 2, 2]
    green = [part.images[:, 1, 16, 16].float() for part in (episode.support, episode.query)]
    assert bool(((green[0][episode.query.labels] - green[1]).abs() < 12).all())
    again = data_set(root=str(root), images=SMALL, splits=NOVEL, **TASK)
    again.episode("test", 0)
    assert torch.equal(again.episode("test", 3).query.images, episode.query.images)


@pytest.mark.parametrize("data_set", [s for s in SETS if s is not MiniImageNet])
def test_closed_sets_of_every_layout(data_set, root):
    data = data_set(root=str(root), images=SMALL, splits=CLOSED)
    data.setup("fit")
    items = data.catalog.items
    parts = [{n for numbers in items[part].values() for n in numbers} for part in ("train", "val", "test")]
    assert all(parts)
    assert len(set.union(*parts)) == sum(map(len, parts)) == len(data.listed[0])
    batches = [data.episode("test", i) for i in range(data.counts["test"])]
    assert sum(len(batch.query.images) for batch in batches) == len(parts[2])
    assert all(batch.support is None and batch.protocol == "batch" for batch in batches)


def test_official_parts_are_kept(root):
    data = CUB(root=str(root), images=SMALL, splits=CLOSED)
    numbers = [n for numbers in data.catalog.items["test"].values() for n in numbers]
    assert {int(data.listed[0][n].name[-5]) for n in numbers} == {4, 5}


def test_grocery_levels(root):
    coarse = Grocery(root=str(root), level="coarse", images=SMALL, splits=CLOSED)
    assert coarse.class_names() == ("Kind0", "Kind1", "Kind2", "Kind3")


def test_mini_imagenet_keeps_the_published_classes(root):
    data = MiniImageNet(root=str(root), images=SMALL, **TASK)
    assert data.catalog.split_classes["test"] == ("n00000006", "n00000007", "n00000008")


def test_splits_of_classes_are_disjoint(folder):
    classes = folder_data(folder).catalog.split_classes
    assert sorted(name for part in classes.values() for name in part) == [f"class{i}" for i in range(8)]


def test_k_shot_does_not_change_the_questions(folder):
    one, three = folder_data(folder), folder_data(folder, k_shot=3)
    assert one.episode("test", 5).query.names == three.episode("test", 5).query.names


def test_a_batch_has_m_classes_of_d_images(folder):
    data = folder_data(folder, splits=CLOSED, training=ClassBatch(4, 2))
    episode = data.episode("train", 0)
    labels, counts = episode.query.labels.unique(return_counts=True)
    assert (len(labels), counts.tolist()) == (4, [2, 2, 2, 2])
    assert episode.classes == tuple(f"class{i}" for i in range(8))
    shown = [episode.query.names[i].split("/")[0] for i in range(8)]
    assert shown == [episode.classes[label] for label in episode.query.labels.tolist()]


def test_training_on_tasks(folder):
    data = folder_data(folder, splits=CLOSED, training=TaskTraining(3, 1, 1))
    episode = data.episode("train", 0)
    assert (len(episode.support.images), len(episode.query.images), len(episode.classes)) == (3, 3, 3)


def test_open_set_queries_show_other_classes(folder):
    data = folder_data(folder, splits=ClassSplits(val_classes=1, test_classes=5), n_open=4)
    episode = data.episode("test", 0)
    assert episode.query.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert not {n.split("/")[0] for n in episode.query.names[6:]} & set(episode.classes)


def test_training_images_are_varied_and_evaluation_images_are_not(folder):
    data = folder_data(folder, splits=CLOSED, images=ImageSettings(size=32, margin=0.25))
    reference = {
        n: image for e in data.reference_episodes() for n, image in zip(e.query.names, e.query.images, strict=True)
    }
    episode = data.episode("train", 0)
    same = [
        torch.equal(image, reference[n]) for n, image in zip(episode.query.names, episode.query.images, strict=True)
    ]
    assert not all(same)
    assert torch.equal(data.episode("train", 0).query.images, episode.query.images)


def test_images_are_decoded_once(folder, monkeypatch):
    data = folder_data(folder)
    data.setup("fit")
    monkeypatch.setattr(ImageFolder, "read", lambda *_: pytest.fail("an image was read again"))
    data.episode("test", 0)


def test_without_a_cache_the_images_are_the_same(folder):
    kept, read = folder_data(folder), folder_data(folder, images=ImageSettings(size=32, cache_mb=0))
    assert read.listed[1].images.numel() == 0
    assert torch.equal(kept.episode("test", 0).query.images, read.episode("test", 0).query.images)


def test_drawn_objects_need_no_data():
    data = DrawnObjects(classes=SceneClasses(train=4, val=3, test=3), objects=ObjectSettings(5), images=SMALL, **TASK)
    data.setup("fit")
    episode = data.episode("test", 0)
    assert episode.query.images.shape == (6, 3, 32, 32)
    other = DrawnObjects(classes=SceneClasses(train=4, val=3, test=3), objects=ObjectSettings(5), images=SMALL, **TASK)
    assert torch.equal(other.episode("test", 0).query.images, episode.query.images)


# bad input --------------------------------------------------------------------------------------------------------


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
