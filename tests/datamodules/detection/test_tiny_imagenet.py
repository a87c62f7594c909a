import importlib.util
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.detection import mosaics
from datamodules.detection.tiny_imagenet import NOVEL_WNIDS, Mosaic, TinyImageNetMosaics
from datamodules.images.catalog import PhotoSplits
from lightning_fewshot.sampling import EpisodePlan, write_episodes

spec = importlib.util.spec_from_file_location("make_tiny", Path(__file__).parents[2] / "data/tiny_imagenet/make.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return maker.make(tmp_path_factory.mktemp("tiny"))


def build(root, **options):
    options = {"photos_kept": 3, "n_way": 3, "n_query": 2, "batch_size": 4, "seed": 1, **options}
    settings = {"color": False, "val_classes": 4}
    settings |= {
        name: options.pop(name) for name in ("color", "distractors", "eval_classes", "episodes_file") if name in options
    }
    for key, group in {"mosaic": Mosaic, "splits": PhotoSplits}.items():
        options[key] = group(**{f.name: settings[f.name] for f in fields(group) if f.name in settings})
    return TinyImageNetMosaics(str(root), **options)


def equal(a, b):
    same = torch.equal(a.query.images, b.query.images) and a.classes == b.classes and a.query.names == b.query.names
    return same and all(torch.equal(x, y) for x, y in zip(a.query.boxes, b.query.boxes, strict=True))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_episode_is_a_function_of_seed_split_and_index(root, split):
    first, again = build(root, color=True), build(root, color=True)
    again.episode(split, 0)
    assert equal(first.episode(split, 5), again.episode(split, 5))
    assert not equal(first.episode(split, 5), first.episode(split, 6))
    assert not equal(first.episode(split, 5), build(root, color=True, seed=2).episode(split, 5))


def test_classes_of_the_splits_are_disjoint(root):
    splits = build(root).catalog.split_classes
    assert set(splits["test"]) == set(maker.NOVEL)
    assert len(splits["val"]) == 4
    assert sum(map(len, splits.values())) == len(set().union(*splits.values())) == 18


def test_support_and_query_share_no_photo_and_seen_episodes_use_no_training_photo(root):
    for options in ({}, {"eval_classes": "seen", "n_query": 1}):
        data = build(root, k_shot=2, **options)
        training = set(data.training_names)
        for i in range(10):
            episode = data.episode("test", i)
            names = (*episode.support.names, *episode.query.names)
            assert len(set(names)) == len(names) == 3 * (2 + data.n_query)
            assert not training.intersection(names)
            assert episode.class_ids == tuple(data.catalog.split_classes["test"].index(c) for c in episode.classes)


@pytest.mark.parametrize(("split", "index"), [("train", 0), ("train", 3), ("val", 0), ("test", 1)])
def test_boxes_surround_the_objects_that_were_drawn(root, split, index, monkeypatch):
    monkeypatch.setattr(mosaics, "blurred", lambda photo, size: np.zeros((size, size, 3), np.uint8))
    episode = build(root, distractors=0).episode(split, index)
    everyone = (*maker.NOVEL, *maker.OTHERS)
    for image, boxes, labels in zip(episode.query.images, episode.query.boxes, episode.query.labels, strict=True):
        red = image[0].numpy().astype(int)
        covered = np.zeros(red.shape, bool)
        for (x1, y1, x2, y2), label in zip(boxes.numpy(), labels, strict=True):
            color = np.array(maker.color(everyone.index(episode.classes[label])))
            a, b, c, d = int(np.ceil(x1)) + 2, int(np.ceil(y1)) + 2, int(x2) - 2, int(y2) - 2
            inside = image.permute(1, 2, 0).numpy()[b:d, a:c].astype(int)
            assert np.abs(inside - color).max() < 30  # the box holds nothing but its object
            covered[max(0, int(y1) - 2) : int(y2) + 3, max(0, int(x1) - 2) : int(x2) + 3] = True
        outside = (red > 220) & ~covered
        assert outside.mean() < 0.001  # and all of it


def test_a_fixed_episode_list_is_used_as_it_is(root, tmp_path):
    names = maker.NOVEL[:2]
    query = tuple(tuple(f"{n}_{i}.JPEG" for i in (5, 3)) for n in names)
    plan = EpisodePlan(names, tuple((f"{n}_0.JPEG",) for n in names), query)
    write_episodes(tmp_path / "list.json", [plan])
    episode = build(root, episodes_file=str(tmp_path / "list.json")).episode("test", 0)
    assert episode.classes == names
    assert episode.query.names == (*plan.query[0], *plan.query[1])
    text = (tmp_path / "list.json").read_text()
    (tmp_path / "cut.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="truncated"):
        build(root, episodes_file=str(tmp_path / "cut.json")).setup("test")


def test_errors_name_the_value_and_the_limit(root, tmp_path):
    with pytest.raises(ValueError, match="n_way is 7 but split 'test' has 6 classes"):
        build(root, n_way=7, n_query=1).setup("test")
    with pytest.raises(ValueError, match=r"has 8 items, but k_shot \+ n_query = 5 \+ 4 = 9"):
        build(root, k_shot=5, n_query=4).setup("test")
    with pytest.raises(FileNotFoundError, match=r"is empty.*tiny-imagenet-200\.zip from Stanford"):
        build(tmp_path).setup("test")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        build(tmp_path / "nowhere").setup("test")


def test_a_truncated_photo_is_named_and_a_bad_box_is_skipped(tmp_path):
    root = maker.make(tmp_path) / "tiny-imagenet-200/train" / maker.NOVEL[0]
    table = root / f"{maker.NOVEL[0]}_boxes.txt"
    table.write_text(table.read_text() + f"{maker.NOVEL[0]}_1.JPEG\t40\t5\t20\t30\n")
    with pytest.warns(UserWarning, match=r"skipped 1 photos.*_1\.JPEG \(inverted\)"):
        build(tmp_path).setup("test")
    photo = root / "images" / f"{maker.NOVEL[0]}_2.JPEG"
    photo.write_bytes(photo.read_bytes()[:800])
    with pytest.raises(ValueError, match=photo.name), pytest.warns(UserWarning, match="skipped 1"):
        build(tmp_path).setup("test")


@pytest.mark.real_data
@pytest.mark.skipif("FEWSHOT_DATA" not in os.environ, reason="needs FEWSHOT_DATA")
def test_the_real_photos():
    data = TinyImageNetMosaics()
    data.setup("test")
    assert {s: len(c) for s, c in data.catalog.split_classes.items()} == {"train": 158, "val": 20, "test": 22}
    assert set(data.catalog.split_classes["test"]) == set(NOVEL_WNIDS)
    episode = data.episode("test", 0)
    assert episode.query.images.shape == (50, 3, 160, 160)
    assert all(b.shape == (1, 4) and (b[:, 2:] > b[:, :2]).all() for b in episode.query.boxes)
