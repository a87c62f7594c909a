"""Boxes are read by COCO's own tools, posteriors as a CSV."""

import csv
import json
from types import SimpleNamespace

import torch
from pycocotools.coco import COCO

from lightning_fewshot.callbacks.predictions import PredictionFiles
from lightning_fewshot.episodes import Detections, Episode, Examples


def predict(folder, preds, classes, names):
    callback = PredictionFiles(folder)
    images = torch.zeros(len(names), 3, 30, 40, dtype=torch.uint8)
    module = SimpleNamespace(prediction_records=lambda episode, preds: None)
    episode = Episode(None, Examples(images, names=names), classes)
    data = SimpleNamespace(to_draw=lambda episode: episode.query)
    trainer = SimpleNamespace(global_rank=0, world_size=1, datamodule=data)
    callback.on_predict_batch_end(trainer, module, preds, episode)
    callback.on_predict_end(trainer, module)


def test_detections_are_coco_results(tmp_path):
    boxes = torch.tensor([[1.0, 2, 11, 22], [3, 4, 5, 6]])
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    found = [Detections(boxes, torch.tensor([0.9, 0.2]), torch.tensor([1, 0])), none]
    predict(tmp_path, found, ("bolt", "nut"), ("x/1.jpg", "x/2.jpg"))
    truth = COCO(str(tmp_path / "coco_categories.json"))
    loaded = truth.loadRes(str(tmp_path / "coco_results.json"))
    first = loaded.anns[1]
    assert first["bbox"] == [1, 2, 10, 20]
    assert truth.cats[first["category_id"]]["name"] == "nut"
    assert truth.imgs[first["image_id"]] == {"id": 1, "file_name": "x/1.jpg", "width": 40, "height": 30}
    assert len(loaded.anns) == 2
    assert not (tmp_path / "posteriors.csv").exists()


def test_posteriors_are_a_csv(tmp_path):
    predict(tmp_path, torch.tensor([[0.25, 0.75], [0.5, 0.25]]), ("bolt", "nut"), ("a,b.jpg", "c.jpg"))
    rows = list(csv.DictReader((tmp_path / "posteriors.csv").open()))
    assert rows[0] == {"image": "a,b.jpg", "predicted": "nut", "bolt": "0.25", "nut": "0.75"}
    assert rows[1]["predicted"] == "bolt"
    assert not (tmp_path / "coco_results.json").exists()
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 2
