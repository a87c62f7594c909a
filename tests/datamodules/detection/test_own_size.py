"""Detections of one's own photos are in the photo's own pixels, whatever size the model saw."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import datamodules
from datamodules.detection.base import DetectionImages
from datamodules.world.example_files import write_examples
from lightning_fewshot.callbacks.predictions import PredictionFiles
from lightning_fewshot.episodes import Detections
from lightning_fewshot.text import read_json


def test_boxes_and_pictures_have_the_size_of_the_file(tmp_path):
    folder = write_examples(tmp_path / "files") / "detect"
    data = datamodules.FolderDetection(str(folder), images=DetectionImages(short_side=64))
    data.setup("predict")
    episode = data.episode("predict", 0)
    assert episode.query.images.shape[-2:] == (64, 64)
    seen = Detections(torch.tensor([[8.0, 16.0, 32.0, 48.0]]), torch.tensor([0.9]), torch.tensor([0]))
    preds = [seen] * len(episode.query.images)
    module = SimpleNamespace(prediction_records=lambda *_: None)
    files = PredictionFiles(tmp_path / "run")
    files.on_predict_batch_end(SimpleNamespace(datamodule=data), module, preds, episode)
    files.on_predict_end(SimpleNamespace(world_size=1), module)
    rows = read_json(tmp_path / "run/predictions.json")
    assert {tuple(row["box"]) for row in rows} == {(32.0, 64.0, 128.0, 192.0)}, "256 pixels, four times as many"
    coco = read_json(tmp_path / "run/coco_results.json")
    assert coco[0]["bbox"] == pytest.approx([32, 64, 96, 128])
    for name in episode.query.names:
        assert Image.open(Path(tmp_path / "run/pictures", name)).size == Image.open(folder / name).size
