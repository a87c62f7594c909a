"""Damaged lists of classes, videos, runs, sweeps, states and checkpoints: a result, or an error with the file in it."""

import json

import numpy as np
import pytest
import torch
from damage import mutated_bytes, mutated_json
from makers import load

from datamodules import CUB, Grocery, MiniImageNet, VideoFile
from datamodules.tracking.imagenet_vid import read_objects
from lightning_fewshot.api import AdaptedState
from lightning_fewshot.checkpoint_files import read_checkpoint, write_checkpoint
from lightning_fewshot.cli.runs import SCHEMA, find_runs
from lightning_fewshot.models.learnet.characters.network import PupilState
from lightning_fewshot.states import load_state, save_state
from lightning_fewshot.tracking.videos import open_frames

MUTATIONS = 200


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    root = tmp_path_factory.mktemp("classes")
    for name in ("cub", "grocery", "miniimagenet"):
        getattr(load("classes"), f"make_{name}")(root)
    return root


def survives(path, read, mutated=mutated_bytes, folder=False):
    """Damage a file 200 times; return how often it was refused, by a message with its name or that of its folder."""
    raw, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    read()
    for i in range(MUTATIONS):
        path.write_bytes(mutated(raw, rng))
        said = None
        try:
            read()
        except UnicodeError as error:
            pytest.fail(f"mutation {i}: {error}")
        except (ValueError, FileNotFoundError) as error:
            said = str(error)
        except Exception as error:
            pytest.fail(f"mutation {i}: {type(error).__name__}: {str(error)[:300]}")
        assert said is None or path.name in said or (folder and str(path.parent) in said), (i, said)
        refused += said is not None
    path.write_bytes(raw)
    return refused


@pytest.mark.parametrize("name", ["images.txt", "train_test_split.txt"])
def test_cub(classes, name):
    folder = classes / "CUB_200_2011"
    assert survives(folder / name, lambda: CUB(root=str(classes)).list_images(), folder=True)


@pytest.mark.parametrize("name", ["classes.csv", "train.txt"])
def test_grocery(classes, name):
    folder = classes / "grocery"
    assert survives(folder / name, lambda: Grocery(root=str(folder)).list_images(), folder=True)


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
