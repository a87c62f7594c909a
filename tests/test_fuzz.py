"""Damaged lists of classes, videos, runs, sweeps, states and checkpoints: a result, or an error with the file in it."""

import json

import pytest
import torch
from damage import MUTATIONS, mutated_json, survives
from makers import load

from datamodules import (
    CUB,
    Flowers102,
    Grocery,
    ImageNetAttributes,
    MiniImageNet,
    Pets37,
    StanfordDogs,
    VideoFile,
)
from datamodules.tracking.imagenet_vid import read_objects
from lightning_fewshot.api import AdaptedState
from lightning_fewshot.checkpoint_files import read_checkpoint, write_checkpoint
from lightning_fewshot.cli.records import SCHEMA
from lightning_fewshot.cli.runs import find_runs
from lightning_fewshot.models.learnet.characters.network import PupilState
from lightning_fewshot.states import load_state, save_state
from lightning_fewshot.tracking.videos import open_frames


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    root = tmp_path_factory.mktemp("classes")
    for name in ("cub", "grocery", "miniimagenet", "pets", "dogs", "flowers", "attributes"):
        getattr(load("classes"), f"make_{name}")(root)
    return root


@pytest.mark.parametrize("name", ["images.txt", "train_test_split.txt"])
def test_cub(classes, name):
    folder = classes / "CUB_200_2011"
    assert survives(folder / name, lambda: CUB(root=str(classes)).list_images(), folder=True)


@pytest.mark.parametrize("name", ["classes.csv", "train.txt"])
def test_grocery(classes, name):
    folder = classes / "grocery"
    assert survives(folder / name, lambda: Grocery(root=str(folder)).list_images(), folder=True)


def test_pets(classes):
    path = classes / "oxford-iiit-pet/annotations/trainval.txt"
    assert survives(path, lambda: Pets37(root=str(classes)).list_images(), folder=True)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (StanfordDogs, "stanford_dogs/train_list.mat"),
        (Flowers102, "flowers-102/imagelabels.mat"),
        (Flowers102, "flowers-102/setid.mat"),
        (ImageNetAttributes, "imagenet_attributes/attrann.mat"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_lists_of_matlab(classes, data, name):
    assert survives(classes / name, lambda: data(root=str(classes)).list_images(), folder=True)


def test_miniimagenet(classes):
    folder = classes / "miniimagenet"
    assert survives(folder / "val.csv", lambda: MiniImageNet(root=str(folder)).list_images(), folder=True)


def test_imagenet_vid(tmp_path):
    load("videos").make_vid(tmp_path, n_videos=1, n_frames=2)
    path = sorted(tmp_path.rglob("*.xml"))[1]
    assert survives(path, lambda: read_objects.__wrapped__(path))


def test_video_files_and_their_boxes(tmp_path):
    clip = load("videos").make_clip(tmp_path / "a.mp4", 3)
    survives(clip, lambda: open_frames(clip)[0])
    truth = tmp_path / "boxes.txt"
    truth.write_text("10,12,20,16\n30,12,20,16\n")
    assert survives(truth, lambda: VideoFile(video=str(clip), truth=str(truth)).boxes)


def test_results_of_runs(tmp_path):
    record = {"schema": SCHEMA, "experiment": "e", "model": "M", "data": "D", "step": 1}
    record |= {"protocol": {"split": "test", "seed": 0}, "metrics": {"a": {"value": 0.5, "ci95": [0.4, 0.6], "n": 5}}}
    (tmp_path / "run").mkdir()
    path = tmp_path / "run/results.json"
    path.write_text(json.dumps(record))
    assert survives(path, lambda: find_runs([tmp_path]), mutated_json) == 0


def test_states(tmp_path):
    path = tmp_path / "a.safetensors"
    save_state(AdaptedState(PupilState(None, None, torch.rand(2, 3), torch.rand(2, 3)), ("a", "b")), path)
    assert survives(path, lambda: load_state(path))


def test_checkpoints(tmp_path):
    path = tmp_path / "a.ckpt"
    write_checkpoint({"state_dict": {"w": torch.zeros(9)}, "global_step": 3, "few_shot": {"class_path": "x"}}, path)
    assert survives(path, lambda: read_checkpoint(path)) > MUTATIONS / 2
