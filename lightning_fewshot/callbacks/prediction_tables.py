"""Predictions as other tools read them: COCO's result format for boxes, a CSV for class posteriors."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_fewshot.episodes import Detections
from lightning_fewshot.files import write_atomically


class CocoResults:
    """Detections in COCO's result format, with a file that says which images and categories its numbers mean."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.classes: list[str] = []

    def add(self, name: str, image: Tensor, preds: Detections, classes: tuple[str, ...]) -> None:
        """Take up one image, ``(3, H, W)``, and what was found in it."""
        self.classes += [name for name in classes if name not in self.classes]
        height, width = image.shape[-2:]
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": name, "width": width, "height": height})
        rows = zip(preds.boxes.tolist(), preds.scores.tolist(), preds.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), score, label in rows:
            box = [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]
            category = 1 + self.classes.index(classes[label])
            self.results.append({"image_id": number, "category_id": category, "bbox": box, "score": round(score, 5)})

    def write(self, folder: Path, rank: str = "") -> None:
        """Write both files, unless there was no image."""
        if not self.images:
            return
        categories = [{"id": 1 + i, "name": name} for i, name in enumerate(self.classes)]
        meaning = {"images": self.images, "annotations": [], "categories": categories}
        write_atomically(folder / f"coco_results{rank}.json", json.dumps(self.results))
        write_atomically(folder / f"coco_categories{rank}.json", json.dumps(meaning, indent=1))


class Posteriors:
    """Scores of whole images, a line an image and a column a class."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.classes: list[str] = []

    def add(self, name: str, scores: Tensor, classes: tuple[str, ...]) -> None:
        """Take up one image with its score of each class, ``(N,)``."""
        self.classes += [name for name in classes if name not in self.classes]
        values = {c: f"{v:.6g}" for c, v in zip(classes, scores.tolist(), strict=False)}
        self.rows.append({"image": name, "predicted": classes[int(scores.argmax())], **values})

    def write(self, path: Path) -> None:
        """Write the file, unless there was no image."""
        if not self.rows:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, ["image", "predicted", *self.classes], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(path, text.getvalue())
