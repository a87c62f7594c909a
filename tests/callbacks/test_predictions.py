"""What predict leaves behind: one file an image, whatever the images are called."""

import json
from types import SimpleNamespace

import pytest
import torch

from lightning_fewshot.callbacks.predictions import PredictionFiles
from lightning_fewshot.episodes import Episode, Examples, Segmentation

NAMES = ("a.jpg", "a.png", "x/1.jpg", "x_1.jpg", "A.jpg", "../out.jpg", "/abs/out.jpg")


def _predict(folder, names=NAMES):
    callback = PredictionFiles(folder)
    images = torch.zeros(len(names), 3, 8, 8, dtype=torch.uint8)
    masks = torch.zeros(len(names), 1, 8, 8, dtype=torch.bool)
    for i in range(len(names)):
        masks[i, 0, : i + 1] = True
    preds = [Segmentation(mask, mask[0].to(torch.uint8)) for mask in masks]
    module = SimpleNamespace(prediction_records=lambda episode, preds: None)
    data = SimpleNamespace(to_draw=lambda episode: episode.query)
    trainer = SimpleNamespace(global_rank=0, world_size=1, datamodule=data)
    callback.on_predict_batch_end(trainer, module, preds, Episode(None, Examples(images, names=names), ("thing",)))
    callback.on_predict_end(trainer, module)
    return json.loads((folder / "predictions.json").read_text())


def test_no_two_images_share_a_file(tmp_path):
    records = _predict(tmp_path / "run")
    assert [r["image"] for r in records] == list(NAMES)
    files = [r["mask"] for r in records]
    assert len({f.casefold() for f in files}) == len(NAMES)
    assert files[:4] == ["masks/a.png", "masks/a.png.png", "masks/x/1.png", "masks/x_1.png"]
    assert all((tmp_path / "run" / f).is_file() for f in files), "the file that the record names"
    assert len(list((tmp_path / "run/pictures").rglob("*.png"))) == len(NAMES)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"], "no name leads out of the run folder"


def test_a_picture_that_cannot_be_written_costs_no_prediction(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning_fewshot.drawing.write_png", full)
    with pytest.warns(UserWarning, match="cannot write all pictures"):
        assert len(_predict(tmp_path / "run")) == len(NAMES)
