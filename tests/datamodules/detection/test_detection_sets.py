"""All data sets of photos with boxes: the same properties for each layout, and what is wrong with bad input."""

import importlib.util
import json
import os
import re
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.detection.base import DetectionImages
from datamodules.detection.coco import CocoDetection
from datamodules.detection.folder import FolderDetection
from datamodules.detection.imagenet_loc import ImageNetLoc, plan_published, read_classes
from datamodules.detection.voc import VOCDetection
from datamodules.detection.yolo import YoloDetection
from datamodules.images import own_folder
from datamodules.images.catalog import PhotoSplits
from lightning_fewshot.sampling import EpisodePlan, write_episodes

spec = importlib.util.spec_from_file_location("make_photos", Path(__file__).parents[2] / "data/photos/make.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)

COCO = ["person", "bicycle", "car", "zebra", "giraffe", "kite", "fork"]  # the first three are novel
VOC = ["bird", "bus", "cow", "dog", "cat", "car", "person"]
WNIDS = [*list(read_classes()["novel"].values())[:3], *list(read_classes()["train"].values())[:4]]
SETS = {
    "coco": (CocoDetection, maker.make_coco, COCO, {}),
    "voc": (VOCDetection, maker.make_voc, VOC, {}),
    "imagenet_loc": (ImageNetLoc, maker.make_ilsvrc, WNIDS, {"held_out": 0.5}),
    "yolo": (YoloDetection, maker.make_yolo, COCO, {}),
    "folder": (FolderDetection, maker.make_folder, COCO, {"novel_classes": COCO[:3], "held_out": 0.5}),
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name), classes, 12) for name, (_, make, classes, _) in SETS.items()}


pytestmark = pytest.mark.filterwarnings("ignore:skipped .* classes of")


def build(roots, name, **options):
    options = {"n_way": 2, "n_query": 2, "k_shot": 1, "batch_size": 4, "color": False, "seed": 3, **options}
    options = {**SETS[name][3], **options}
    groups = {"splits": PhotoSplits, "images": DetectionImages}
    for key, group in groups.items():
        names = [field.name for field in fields(group) if field.name in options]
        options[key] = group(**{field: options.pop(field) for field in names})
    return SETS[name][0](str(roots[name]), **options)


def episodes_equal(a, b):
    return a.query.names == b.query.names and all(map(torch.equal, a.query.images, b.query.images))


every_set = pytest.mark.parametrize("name", list(SETS))


@every_set
def test_an_episode_is_a_function_of_seed_split_and_index(roots, name):
    for split in ("train", "val", "test"):
        first, again = build(roots, name, color=True), build(roots, name, color=True)
        again.episode(split, 1)
        assert episodes_equal(first.episode(split, 7), again.episode(split, 7))
        assert not episodes_equal(first.episode(split, 7), build(roots, name, color=True, seed=4).episode(split, 7))


@every_set
def test_classes_are_disjoint_and_no_photo_is_used_twice(roots, name):
    data = build(roots, name, val_classes=2)
    splits = {split: set(classes) for split, classes in data.catalog.split_classes.items()}
    assert not splits["train"] & splits["val"] | splits["train"] & splits["test"] | splits["val"] & splits["test"]
    for split in ("val", "test"):
        for i in range(8):
            episode = data.episode(split, i)
            names = (*episode.support.names, *episode.query.names)
            assert len(set(names)) == len(names) == 2 * 3
            assert not set(names) & set(data.training_names)
            assert [data.catalog.split_classes[split][c] for c in episode.class_ids] == list(episode.classes)
            for part in (episode.support, episode.query):
                for photo, labels in zip(part.names, part.labels, strict=True):
                    assert {episode.classes[n] for n in labels} <= set(data.catalog.photos[photo].classes)


@every_set
def test_boxes_are_where_the_objects_are_drawn(roots, name):
    for split in ("train", "test"):
        part = build(roots, name, short_side=73, max_side=100).episode(split, 2).query
        assert part.images.dtype == torch.uint8
        assert part.images.shape[1:] == (3, 67, 100)
        for image, boxes in zip(part.images, part.boxes, strict=True):
            ys, xs = np.nonzero(image[0].numpy() > 150)
            np.testing.assert_allclose(boxes.numpy()[0], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.5)


@every_set
def test_training_visits_every_photo_once_in_a_pass(roots, name):
    data = build(roots, name, batch_size=1)
    total = len(data.training_names)
    assert sorted(data.episode("train", i).query.names[0] for i in range(total)) == sorted(data.training_names)
    episode = data.episode("train", 0)
    assert episode.support is None
    assert episode.classes == data.class_names()


def test_seen_classes_are_tested_on_photos_that_training_leaves_out(roots):
    data = build(roots, "coco", eval_classes="seen")
    assert data.catalog.split_classes["test"] == data.class_names()
    assert not set(data.episode("test", 0).query.names) & set(data.training_names)


@every_set
def test_a_missing_root_says_what_to_download_and_where_to_put_it(tmp_path, monkeypatch, name):
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    empty = dict.fromkeys(SETS, tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"is empty\. (Download .* unpack|Export .* put) it so that these exist: /"
    ):
        build(empty, name).setup("test")
    with pytest.raises(FileNotFoundError, match=r"set FEWSHOT_DATA or --data.root"):
        SETS[name][0]().setup("test")


def test_too_many_ways_or_shots_name_both_numbers(roots):
    with pytest.raises(ValueError, match="n_way is 4 but split 'test' has 3 classes"):
        build(roots, "yolo", n_way=4).setup("test")
    with pytest.raises(ValueError, match=r"has 24 items, but k_shot \+ n_query = 23 \+ 2 = 25"):
        build(roots, "yolo", k_shot=23).setup("test")


def test_small_classes_are_left_out_on_demand(roots):
    options = {"novel_classes": ["person", "bicycle", "zebra"], "k_shot": 2, "n_query": 2, "small_classes": "drop"}
    data = build(roots, "coco", **options)
    photos = data.catalog.photos
    kept = {name: photo for name, photo in photos.items() if "zebra" not in photo.classes}
    data.catalog.photos = {**kept, **dict([(n, p) for n, p in photos.items() if "zebra" in p.classes][:3])}
    with pytest.warns(UserWarning, match=r"skipped 1 small classes: zebra \(3 photos of 4\)"):
        data.setup("test")
    assert data.protocol("test")["classes"] == 2
    assert all("zebra" not in data.episode("test", i).classes for i in range(10))


def test_classes_without_photos_are_listed_or_refused_if_named(roots):
    with pytest.warns(UserWarning, match=r"skipped 17 classes of CocoDetection: airplane \(no photo\)"):
        build(roots, "coco").setup("test")
    with pytest.raises(ValueError, match="novel_classes has 'zebu' but the data has bicycle, car"):
        build(roots, "coco", novel_classes=["zebu"]).setup("test")


def test_bad_boxes_are_skipped_counted_and_listed_and_crowds_left_out(tmp_path):
    root = maker.make_coco(tmp_path, COCO, 2)
    path = root / "coco/annotations/instances_val2017.json"
    record = json.loads(path.read_text())
    good = record["annotations"][0]
    bad = {"outside": [70, 5, 10, 10], "inverted": [30, 5, -10, 10], "empty": [5, 5, 0, 10]}
    record["annotations"] += [{**good, "id": 9000 + i, "bbox": box} for i, box in enumerate(bad.values())]
    record["annotations"] += [{**good, "id": 9100, "bbox": [50, 30, 40, 40]}, {**good, "id": 9200, "iscrowd": 1}]
    path.write_text(json.dumps(record))
    text = r"skipped 3 boxes of instances_val2017.json: .*9000 \(outside.*9001 \(inverted\).*9002 \(empty\)"
    with pytest.warns(UserWarning, match=text):
        photos = build({"coco": root}, "coco").catalog.photos
    boxes = photos[record["images"][0]["file_name"]].boxes
    assert len(boxes) == 2
    assert boxes[1].tolist() == [50, 30, 60, 40]  # clipped


def test_truncated_annotations_and_photos_are_named(tmp_path):
    root = maker.make_coco(tmp_path / "a", COCO, 2)
    path = root / "coco/annotations/instances_train2017.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(ValueError, match=r"instances_train2017.json is truncated"):
        build({"coco": root}, "coco").setup("fit")
    root = maker.make_voc(tmp_path / "b", VOC, 2)
    table = next((root / "VOCdevkit/VOC2007/Annotations").glob("*.xml"))
    table.write_text(table.read_text()[:100])
    with pytest.raises(ValueError, match=rf"{table.name} is truncated"):
        build({"voc": root}, "voc").setup("fit")
    data = build({"yolo": maker.make_yolo(tmp_path / "c", COCO, 3)}, "yolo")
    photo = data.catalog.photos[data.episode("test", 0).query.names[0]].path
    photo.write_bytes(photo.read_bytes()[:700])
    with pytest.raises(ValueError, match=re.escape(f"{photo} is truncated")):
        data.episode("test", 0)


def test_a_fixed_list_is_used_as_it_is_and_a_bad_one_refused(roots, tmp_path):
    sampled = build(roots, "coco")
    plans = [sampled.sampler("test")[i] for i in (4, 9)]
    write_episodes(tmp_path / "list.json", plans)
    data = build(roots, "coco", episodes_file=str(tmp_path / "list.json"), seed=99)
    data.test_dataloader()
    assert data.counts["test"] == 2
    assert episodes_equal(data.episode("test", 1), sampled.episode("test", 9))
    write_episodes(tmp_path / "odd.json", [EpisodePlan(plans[0].classes, *[(("nobody.jpg",), ("nobody.jpg",))] * 2)])
    with pytest.raises(ValueError, match=r"episode 0 of .*'nobody.jpg'"):
        build(roots, "coco", episodes_file=str(tmp_path / "odd.json")).setup("test")
    for name in ("coco", "imagenet_loc"):
        (tmp_path / "cut.json").write_text((tmp_path / "list.json").read_text()[:90])
        with pytest.raises(ValueError, match="truncated"):
            build(roots, name, episodes_file=str(tmp_path / "cut.json")).setup("test")


def test_repmets_list_keeps_classes_and_counts_and_never_mixes_support_and_query(roots, tmp_path):
    numbers = list(read_classes()["novel"])[:3]
    entry = {"epi_cats": numbers, "train_nImg": {}, "query_images": {}}
    for n in numbers:
        entry["train_nImg"][str(n)], entry["query_images"][str(n)] = (
            [100 * n + 12],
            [100 * n, 100 * n + 24, 100 * n + 3],
        )
    (tmp_path / "episodes_1shot.json").write_text(json.dumps([entry]))
    data = build(roots, "imagenet_loc", episodes_file=str(tmp_path / "episodes_1shot.json"))
    episode = data.episode("test", 0)
    assert episode.classes == tuple(WNIDS[:3])
    sorted_names = sorted(f"{WNIDS[0]}_{i}.JPEG" for i in range(12))
    assert episode.support.names[0] == sorted_names[12 % 12]
    assert episode.query.names[:3] == tuple(sorted_names[i] for i in (1, 2, 3))  # 0 and 24 % 12 were taken
    del entry["train_nImg"]
    with pytest.raises(ValueError, match="not one of RepMet's"):
        plan_published([entry], data.sorted_names, "list")


def test_ones_own_folder_is_predicted_from_all_its_labelled_photos(tmp_path, monkeypatch):
    monkeypatch.setattr(own_folder, "CHUNK", 3)
    root = maker.make_folder(tmp_path, ["cup", "pen"], 3)
    data = FolderDetection(str(root))
    data.setup("predict")
    assert data.counts["predict"] == 2
    first, second = data.episode("predict", 0), data.episode("predict", 1)
    assert first.classes == ("cup", "pen")
    assert len(first.support.names) == 6
    assert (*first.query.names, *second.query.names) == (
        "query/q0.png",
        "query/q1.png",
        "query/q2.png",
        "unlabelled.png",
    )
    assert first.query.boxes is None
    with pytest.raises(ValueError, match="set novel_classes"):
        data.setup("fit")
    for path in (root / "unlabelled.png", *(root / "query").iterdir()):
        path.unlink()
    with pytest.raises(ValueError, match="query/"):
        FolderDetection(str(root)).setup("predict")


real = [pytest.mark.real_data, pytest.mark.skipif("FEWSHOT_DATA" not in os.environ, reason="needs FEWSHOT_DATA")]


@pytest.mark.parametrize("data", [pytest.param("coco128", marks=real), pytest.param("voc", marks=real)])
def test_real_photos_are_read_and_their_boxes_lie_inside(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        data = (
            YoloDetection(n_query=2, images=DetectionImages(short_side=200))
            if data == "coco128"
            else VOCDetection(images=DetectionImages(short_side=200))
        )
        photos = list(data.catalog.photos.values())
    assert len(photos) >= 10
    for i in range(0, len(photos), 10):
        image, boxes = data.read(photos[i], photos[i].boxes, None)
        height, width = image.shape[:2]
        assert min(height, width) == 200
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width + 1e-3).all()
        assert (boxes[:, 3] <= height + 1e-3).all()


@pytest.mark.parametrize("shots", [pytest.param(k, marks=real) for k in (1, 5, 10)])
def test_repmets_published_lists_are_read(shots):
    path = Path(os.environ["FEWSHOT_DATA"]) / f"repmet-benchmark/episodes_{shots}shot.json"
    photos = {wnid: [f"{wnid}_{i:04d}" for i in range(500)] for wnid in read_classes()["novel"].values()}
    plans = plan_published(json.loads(path.read_text()), photos, str(path))
    assert len(plans) == (498 if shots == 1 else 500)
    for plan in plans:
        used = [name for part in plan[1:] for names in part for name in names]
        assert len(set(used)) == len(used)
        assert all(len(names) == 10 for names in plan.query)
        assert all(len(names) <= shots for names in plan.support)
