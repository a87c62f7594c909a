"""Of a data set in parts, those that a command does not need may be missing."""

import shutil

import pytest

import datamodules
from datamodules.characters.tasks import TrainingTask

PAIRS = {"n_way": 2, "problems": 4, "val_alphabets": 1}
TASKS = {"n_way": 2, "n_query": 1, "val_alphabets": 1, "training": TrainingTask(2, 1, 1)}
FEW = {"n_way": 2, "n_query": 1, "num_workers": 0}


@pytest.mark.parametrize(
    ("name", "options", "missing", "split"),
    [
        ("OmniglotPairs", PAIRS, "omniglot/images_background", "test"),
        ("OmniglotPairs", PAIRS, "omniglot/images_evaluation", "train"),
        ("OmniglotTasks", TASKS, "omniglot/images_background", "test"),
        ("OmniglotTasks", TASKS, "omniglot/images_evaluation", "train"),
        ("VOCDetection", FEW, "VOCdevkit/VOC2012", "test"),
        ("VOCDetection", FEW, "VOCdevkit/VOC2007", "test"),
        ("VOCDetection", FEW, "VOCdevkit/VOC2007/ImageSets/Main/test.txt", "train"),
        ("MiniImageNet", FEW, "miniimagenet/train.csv", "test"),
        ("MiniImageNet", FEW, "miniimagenet/test.csv", "train"),
    ],
)
def test_a_part_that_is_not_needed_may_be_missing(tiny_data, tmp_path, monkeypatch, name, options, missing, split):
    folder = missing.partition("/")[0]
    shutil.copytree(tiny_data / folder, tmp_path / folder)
    gone = tmp_path / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    monkeypatch.setenv("FEWSHOT_DATA", str(tmp_path))
    data = getattr(datamodules, name)(**options)
    assert len(data.episode(split, 0).query.images) > 0
