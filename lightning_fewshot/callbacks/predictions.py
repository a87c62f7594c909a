"""What ``predict`` leaves behind: ``predictions.json``, a picture of every image, and masks where a model segments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lightning_fewshot.callbacks.prediction_tables import CocoResults, Posteriors
from lightning_fewshot.episodes import Detections, Episode, Examples, Segmentation
from lightning_fewshot.files import OutputNames, write_atomically


class PredictionFiles(Callback):
    """Write the predictions for every query image of ``predict`` as COCO-like records, and draw them.

    A record is ``{"image": name, "class": name, "box": [x1, y1, x2, y2] in pixels, "score": 0..1}``; a model that
    scores whole images has one record an image, without a box. A model that segments has a record for each class found,
    ``{"image": name, "class": name, "share": 0..1 of the image, "mask": file}``, and writes ``masks/<name>.png``:
    a palette PNG of the image's size, 0 background and 1 + i for class i (in the order of ``"value"``). ``<name>`` is
    the image's path without its suffix; where two images would share it, the second keeps the suffix.

    What other tools read stands beside it: of detections ``coco_results.json`` (COCO's result format) with
    ``coco_categories.json`` (the images and categories that its numbers mean), of scores of whole images
    ``posteriors.csv`` (a line an image, a column a class). Of several processes each writes its own files.

    Args:
        run_dir: Folder of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = Path(run_dir)
        self._records: list[dict[str, Any]] = []
        self._output_names = OutputNames()
        self._coco = CocoResults()
        self._posteriors = Posteriors()

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Episode, *_: Any
    ) -> None:
        """Collect the records of an episode and draw its images."""
        records = pl_module.prediction_records(batch, outputs)
        if records is not None:
            self._records += records
            return
        names = batch.query.names or tuple(f"{batch.index}_{i}" for i in range(len(batch.query.images)))
        files = [f"{self._output_names.name(name)}.png" for name in names]
        query = trainer.datamodule.to_draw(batch)._replace(boxes=None)
        outputs = [
            _scaled(preds, seen, own)
            for preds, seen, own in zip(outputs, batch.query.images, query.images, strict=True)
        ]
        for name, file, image, preds in zip(names, files, query.images, outputs, strict=True):
            if isinstance(preds, Segmentation):
                self._records += self._write_mask(name, file, preds, batch.classes)
            else:
                self._records += self._keep(name, image, preds, batch.classes)
        try:
            self._draw(query, batch.classes, files, outputs)
        except OSError as error:
            rank_zero_warn(f"cannot write all pictures: {error}")

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the records, whole or not at all."""
        rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = self.run_dir / f"predictions{rank}.json"
        write_atomically(path, json.dumps(self._records, indent=1))
        self._coco.write(self.run_dir, rank)
        self._posteriors.write(self.run_dir / f"posteriors{rank}.csv")
        pictures = self.run_dir / "pictures"
        print(f"{len(self._records)} predictions: {path}" + (f"; pictures: {pictures}" if pictures.exists() else ""))

    def _keep(self, name: str, image: Tensor, preds: Any, classes: tuple[str, ...]) -> list[dict[str, Any]]:
        if isinstance(preds, Detections):
            self._coco.add(name, image, preds, classes)
        else:
            self._posteriors.add(name, preds, classes)
        return _records(name, preds, classes)

    def _write_mask(self, name: str, file: str, preds: Segmentation, classes: tuple[str, ...]) -> list[dict[str, Any]]:
        from lightning_fewshot.drawing import write_mask

        path = self.run_dir / "masks" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(preds.label_map, path)
        shares = preds.masks.flatten(1).double().mean(1).tolist()
        return [
            {"image": name, "class": c, "value": 1 + i, "share": round(share, 5), "mask": f"masks/{file}"}
            for i, (c, share) in enumerate(zip(classes, shares, strict=True))
            if share > 0
        ]

    def _draw(self, query: Examples, classes: tuple[str, ...], files: list[str], preds: Any) -> None:
        from lightning_fewshot.drawing import draw_examples, write_png

        pictures = draw_examples(query, classes, preds, limit=len(files))
        for file, picture in zip(files, pictures, strict=True):
            path = self.run_dir / "pictures" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(picture, path)


def _scaled(preds: Any, seen: Tensor, own: Tensor) -> Any:
    """Return detections in pixels of the user's image, where the model saw it in another size."""
    if not isinstance(preds, Detections) or seen.shape == own.shape:
        return preds
    x, y = (own.shape[axis] / seen.shape[axis] for axis in (-1, -2))
    return preds._replace(boxes=preds.boxes * preds.boxes.new_tensor([x, y, x, y]))


def _records(name: str, preds: Detections | Tensor, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    if not isinstance(preds, Detections):  # one score a class
        return [{"image": name, "class": classes[int(preds.argmax())], "score": round(float(preds.max()), 5)}]
    rows = zip(preds.boxes.tolist(), preds.scores.tolist(), preds.labels.tolist(), strict=True)
    return [
        {"image": name, "class": classes[label], "box": [round(v, 2) for v in box], "score": round(score, 5)}
        for box, score, label in rows
    ]
