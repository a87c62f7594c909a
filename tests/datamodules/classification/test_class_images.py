"""Class images: real layouts, splits, episodes as functions of (seed, split, i)."""

import pytest
import torch
from class_folders import CLOSED, NOVEL, SMALL, TASK, folder_data, make

from datamodules import (
    CUB,
    DrawnObjects,
    Flowers102,
    Grocery,
    ImageFolder,
    ImageNetAttributes,
    MiniImageNet,
    Pets37,
    StanfordDogs,
)
from datamodules.classification.drawn_objects import ObjectSettings
from datamodules.classification.settings import ClassSplits, ImageSettings
from datamodules.classification.training import ClassBatch, TaskTraining
from datamodules.world.scenes import SceneClasses

SETS = [CUB, Flowers102, Grocery, ImageFolder, ImageNetAttributes, MiniImageNet, Pets37, StanfordDogs]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    make.make_all(folder)
    return folder


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


def test_flowers_and_pets_are_listed_as_torchvision_lists_them(root, monkeypatch):
    """Every image is in the same part with the same label; torchvision refuses files other than the published."""
    from torchvision import datasets

    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)
    lists = root / "oxford-iiit-pet/annotations/trainval.txt"
    lists.write_text("".join(line for line in lists.read_text().splitlines(True) if not line.startswith("#")))
    readers = {
        Flowers102: (datasets.Flowers102, {"train": "train", "val": "val", "test": "test"}, "_image_files"),
        Pets37: (datasets.OxfordIIITPet, {"train": "trainval", "test": "test"}, "_images"),
    }
    for data_set, (reader, parts, files) in readers.items():
        images = data_set(root=str(root)).list_images()
        for part, split in parts.items():
            theirs = reader(str(root), split=split)
            paired = dict(zip((path.name for path in getattr(theirs, files)), theirs._labels, strict=True))
            ours = {image.path.name: image.label for image in images if image.part == part}
            assert ours.keys() == paired.keys()
            assert (
                len({*ours.values()}) == len({(ours[name], paired[name]) for name in ours}) == len({*paired.values()})
            )


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


def test_attributes_of_judged_images(root):
    data = ImageNetAttributes(root=str(root), images=SMALL)
    attributes = {image.name: data.attributes_of(image) for image in data.list_images()}
    assert attributes["n00000001/n00000001_0.JPEG"] == {"red"}
    assert attributes["n00000002/n00000002_2.JPEG"] == {"round", "shiny"}
    assert attributes["n00000001/n00000001_3.JPEG"] == set()


def test_attributes_of_drawn_objects():
    data = DrawnObjects(SceneClasses(train=3, val=1, test=1), ObjectSettings(2), images=SMALL)
    image = data.list_images()[0]
    assert data.attributes_of(image) == {"zigzag", "blob"}
    assert "zigzag-blob" in image.label


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
    read = []
    monkeypatch.setattr(ImageFolder, "read", lambda _, image: read.append(image))
    assert len(data.episode("test", 0).query.images)
    assert not read


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
