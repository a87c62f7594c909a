"""Trained models from Python: ``load`` a checkpoint, label a few ``examples``, adapt, predict.

    import lightning_fewshot as lf

    model = lf.load("best.ckpt")
    support = lf.examples(["a.jpg", "b.jpg"], boxes=[(10, 10, 50, 40), (5, 8, 60, 70)], labels=["bolt", "nut"])
    state = model.adapt(support)
    for found in model.predict(state, lf.examples(["c.jpg", "d.jpg"])):
        print(found.boxes, found.scores, found.labels)

The same calls serve all tasks. A tracker has ``target = model.init(frame, box)``, then ``target.update(frame)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_fewshot.checkpoints import build_data, build_module
from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.episodes import Detections, Examples, Segmentation
from lightning_fewshot.images import as_image
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.tracking.module import TrackingModule


class NamedExamples(NamedTuple):
    """Images with what is known of them.

    Args:
        examples: Images, and labels, boxes or masks; labels index ``classes``.
        classes: Names of the classes.
    """

    examples: Examples
    classes: tuple[str, ...]


class AdaptedState(NamedTuple):
    """A paper's state, and the names of its classes.

    Args:
        state: What ``adapt`` of the paper's module returned.
        classes: Class i is ``classes[i]``.
    """

    state: Any
    classes: tuple[str, ...]


class Prediction(NamedTuple):
    """What was predicted for one image; fields that a task has no use for are None.

    Args:
        labels: Class names: of each box, of each mask, or of the image's classes by falling score.
        scores: ``(M,)`` in [0, 1], one a label; None for masks.
        boxes: ``(M, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels of the image.
        masks: ``(M, H, W)`` bool.
        probs: ``(M, H, W)`` probabilities of the masks.
    """

    labels: tuple[str, ...]
    scores: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None
    probs: Tensor | None = None


def load(path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a trained model: its class and settings are in the checkpoint.

    Args:
        path: A checkpoint of ``fit``.
        device: Where it computes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no checkpoint of this framework, of a class that does not exist here, or of another
            version; says which.
    """
    return Model(build_module(path).to(device))


def load_data(path: str | Path) -> EpisodicDataModule:
    """Load the data of a run, ready to give episodes: ``load_data("best.ckpt").episode("test", 0)``.

    Args:
        path: A checkpoint of ``fit``.

    Raises:
        FileNotFoundError: There is no such file, or the data set is not there.
        ValueError: The checkpoint does not say what data it was trained on.
    """
    data = build_data(path)
    for stage in ("fit", "test"):
        data.setup(stage)
    return data


def examples(
    images: Any, labels: Any = None, boxes: Any = None, masks: Any = None, classes: Sequence[str] | None = None
) -> NamedExamples:
    """Return images, labelled or not.

    Args:
        images: One image or several: paths, PIL images, numpy arrays ``(H, W, 3)`` uint8 or tensors ``(3, H, W)``.
        labels: Class name of each image; or, with boxes, a list of names for an image with several.
        boxes: One box ``(x1, y1, x2, y2)`` in pixels for each image, or a list of boxes.
        masks: One mask an image, ``(H, W)`` or the path of one: other than 0 is the object, 255 beside other values is
            not known.
        classes: Names and order of the classes; None: those of the labels, sorted.

    Raises:
        ValueError: Numbers of images, labels, boxes or masks that differ, a label that ``classes`` lacks, a class
            without an example, a mask of another size than its image.
    """
    images = [as_image(image) for image in _as_list(images)]
    if (boxes is not None and labels is None) or (masks is not None and labels is None):
        raise ValueError("boxes and masks need labels: the class name of each image")
    if labels is None:
        return NamedExamples(Examples(_stacked(images)), tuple(classes or ()))
    labels = [labels] if isinstance(labels, str) else list(labels)
    boxes = None if boxes is None else _as_boxes(boxes, len(images))
    masks = None if masks is None else _as_list(masks)
    for name, values in {"labels": labels, "boxes": boxes, "masks": masks}.items():
        if values is not None and len(values) != len(images):
            raise ValueError(f"there are {len(images)} images but {len(values)} {name}")
    names = _class_names(labels, classes)
    if boxes is not None:
        return NamedExamples(_with_boxes(images, labels, boxes, names), names)
    numbers = torch.tensor([names.index(label) for label in labels])
    if masks is not None:
        values = [_as_mask(m, image, 1 + int(n)) for m, image, n in zip(masks, images, numbers, strict=True)]
        return NamedExamples(Examples(_stacked(images), numbers, class_masks=_stacked(values)), names)
    return NamedExamples(Examples(_stacked(images), numbers), names)


class Model:
    """A trained module, ready to be used on images: ``adapt`` to a few, ``predict`` on others.

    Args:
        module: In evaluation mode.
    """

    def __init__(self, module: FewShotModule) -> None:
        self.module = module.eval()

    def __repr__(self) -> str:
        """Name the module and its settings."""
        return f"Model({type(self.module).__name__}, {self.module.init_args})"

    @torch.no_grad()
    def adapt(self, support: NamedExamples) -> AdaptedState:
        """Look at labelled images; return the state to predict with.

        Raises:
            ValueError: The model needs boxes, masks or labels that the support lacks.
        """
        needed = self.module.support_needs
        if getattr(support.examples, needed) is None:
            given = [n for n in ("boxes", "class_masks", "labels") if getattr(support.examples, n) is not None]
            name = type(self.module).__name__
            raise ValueError(
                f"{name} needs {needed.removeprefix('class_')} in its support, but it has "
                f"{', '.join(g.removeprefix('class_') for g in given) or 'images alone'}"
            )
        return AdaptedState(self.module.adapt_images(self._moved(support.examples)), support.classes)

    @torch.no_grad()
    def predict(self, state: AdaptedState, query: NamedExamples) -> list[Prediction]:
        """Predict on images, for all classes of the state."""
        plain = Examples(query.examples.images)
        preds = self.module.predict_images(state.state, self._moved(plain))
        return [as_prediction(pred, state.classes) for pred in preds]

    def init(self, frame: Any, box: Sequence[float] | Tensor) -> Target:
        """Start to track one object.

        Args:
            frame: The first frame, like an image of :func:`examples`.
            box: ``(x1, y1, x2, y2)`` of the object there, in pixels.

        Raises:
            ValueError: The model is no tracker, or the box is empty.
        """
        if not isinstance(self.module, TrackingModule):
            raise ValueError(f"{type(self.module).__name__} is no tracker: use adapt and predict")
        box = torch.as_tensor(box, dtype=torch.float32)
        if box.shape != (4,) or not (box[2] > box[0] and box[3] > box[1]):
            raise ValueError(f"box is {box.tolist()} but must be (x1, y1, x2, y2) with x2 > x1 and y2 > y1")
        return Target(self.module.running_tracker(), as_image(frame), box)

    def _moved(self, examples: Examples) -> Examples:
        device = self.module.device
        parts = [[t.to(device) for t in p] if isinstance(p, list) else p for p in examples._replace(ignored=None)]
        return Examples(*(p.to(device) if isinstance(p, Tensor) else p for p in parts))


class Target:
    """One object that is being tracked. It holds the track state, which the tracker itself does not."""

    @torch.no_grad()
    def __init__(self, tracker: Any, frame: Tensor, box: Tensor) -> None:
        self._tracker = tracker
        self._state = tracker.init(frame, box)
        self.box = box

    @torch.no_grad()
    def update(self, frame: Any) -> tuple[Tensor, float]:
        """Find the object in the next frame; return its box ``(4,)`` and a score, higher where surer."""
        self._state, self.box, score = self._tracker.update(self._state, as_image(frame))
        return self.box, float(score)


def as_prediction(pred: Detections | Segmentation | Tensor, classes: tuple[str, ...]) -> Prediction:
    """Return a paper's prediction for one image with class names."""
    if isinstance(pred, Detections):
        labels = tuple(classes[label] for label in pred.labels.tolist())
        return Prediction(labels, pred.scores.cpu(), boxes=pred.boxes.cpu())
    if isinstance(pred, Segmentation):
        probs = None if pred.probs is None else pred.probs.cpu()
        return Prediction(classes, masks=pred.masks.cpu(), probs=probs)
    order = pred.argsort(descending=True).cpu()
    return Prediction(tuple(classes[i] for i in order.tolist()), pred.cpu()[order])


def _as_list(values: Any) -> list[Any]:
    single = isinstance(values, (str, Path)) or hasattr(values, "mode")
    if isinstance(values, (np.ndarray, Tensor)):
        single = values.ndim == 2 or (values.ndim == 3 and (values.shape[2] == 3 or values.shape[0] in (1, 3)))
    values = [values] if single else list(values)
    if not values:
        raise ValueError("there is no image")
    return values


def _as_boxes(boxes: Any, count: int) -> list[Tensor]:
    if count == 1 and torch.as_tensor(boxes, dtype=torch.float32).ndim == 1:
        boxes = [boxes]
    rows = [torch.as_tensor(b, dtype=torch.float32).reshape(-1, 4) for b in boxes]
    for i, row in enumerate(rows):
        if bool(((row[:, 2] <= row[:, 0]) | (row[:, 3] <= row[:, 1])).any()):
            raise ValueError(f"image {i} has a box that is empty: boxes are (x1, y1, x2, y2), got {row.tolist()}")
    return rows


def _class_names(labels: list[Any], classes: Sequence[str] | None) -> tuple[str, ...]:
    used = {name for label in labels for name in ([label] if isinstance(label, str) else label)}
    if classes is None:
        return tuple(sorted(used))
    if unknown := sorted(used.difference(classes)):
        raise ValueError(f"label {unknown[0]!r} is none of the classes {', '.join(classes)}")
    if lacking := [name for name in classes if name not in used]:
        raise ValueError(f"class {lacking[0]!r} has no example in the support")
    return tuple(classes)


def _with_boxes(images: list[Tensor], labels: list[Any], boxes: list[Tensor], names: tuple[str, ...]) -> Examples:
    numbers = []
    for i, (label, rows) in enumerate(zip(labels, boxes, strict=True)):
        each = [label] * len(rows) if isinstance(label, str) else list(label)
        if len(each) != len(rows):
            raise ValueError(f"image {i} has {len(rows)} boxes but {len(each)} labels")
        numbers.append(torch.tensor([names.index(name) for name in each]))
    return Examples(_stacked(images), numbers, boxes)


def _as_mask(mask: Any, image: Tensor, value: int) -> Tensor:
    from lightning_fewshot.images import read_mask

    values = torch.as_tensor(read_mask(mask) if isinstance(mask, (str, Path)) else np.asarray(mask))
    if values.shape != image.shape[1:]:
        raise ValueError(f"a mask has shape {tuple(values.shape)} but its image is {tuple(image.shape[1:])}")
    unknown = (values == 255) & bool(((values != 0) & (values != 255)).any())
    return torch.where(values != 0, value, 0).masked_fill(unknown, 255).to(torch.uint8)


def _stacked(values: list[Tensor]) -> Tensor | list[Tensor]:
    return torch.stack(values) if len({v.shape for v in values}) == 1 else values
