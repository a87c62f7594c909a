"""What travels between data, models and metrics: a few labelled examples (support) and new inputs (query).

All parts are NamedTuples, so that Lightning moves them to a device, pins them and collates them as they are.

Shapes: S support or B query images, M boxes of one image, N classes (ways), C H W an image.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

VOID = 255  # value of a class mask where the truth is not known


class Ignored(NamedTuple):
    """Objects of one image that are neither to be found nor wrong: crowds (COCO) and difficult objects (VOC).

    Args:
        boxes: ``(K, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels of the image.
        labels: ``(K,)`` int64, index into ``Episode.classes``.
        crowd: ``(K,)`` bool: a region with many objects, where a detection counts for nothing if it lies inside.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor


class Examples(NamedTuple):
    """Labelled images. Fields that a task has no use for stay None.

    Args:
        images: ``(B, C, H, W)`` uint8 in [0, 255], or a list of B such ``(C, H, W)`` where sizes differ.
        labels: ``(B,)`` int64, one class an image; or, where images hold several objects, a list of B ``(M,)``.
            Labels index ``Episode.classes``.
        boxes: list of B ``(M, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels of the image, no "+1".
        class_masks: ``(B, H, W)`` uint8 or a list of B ``(H, W)``: 0 is background, 1 + i the class
            ``Episode.classes[i]``, 255 (``VOID``) nothing that counts. With class masks a label is the class that the
            image is a shot of, or is asked for.
        instance_masks: list of B ``(M, H, W)`` bool, one mask an object.
        names: what each image is called in pictures and result files.
        query_index: Of a support: ``(B,)`` int64, the query image that each shot belongs to (pairs to train on).
            None: the support serves all queries.
        ignored: list of B, what a detector may find there or not; None: nothing.
    """

    images: Tensor | list[Tensor]
    labels: Tensor | list[Tensor] | None = None
    boxes: list[Tensor] | None = None
    class_masks: Tensor | list[Tensor] | None = None
    instance_masks: list[Tensor] | None = None
    names: tuple[str, ...] | None = None
    query_index: Tensor | None = None
    ignored: list[Ignored] | None = None


class Episode(NamedTuple):
    """One few-shot task. ``support`` is None for a plain supervised batch (RepMet trains on those).

    Args:
        support: The labelled examples that a model adapts to.
        query: The inputs to predict on, with the truth where it is known.
        classes: Name of each class; label i means ``classes[i]``.
        index: Number of the episode in its split. Episode i is a function of (seed, split, i) alone.
        class_ids: ``(N,)`` numbers of the classes in the whole split, for metrics that pool episodes.
        protocol: What kind of episode this is: "episode" (a few-shot task), "batch" (plain supervised images, no
            support), "pairs", "clips", "frames" or "alphabets" (training episodes of trackers and characters),
            "problems" (one-shot recognition), "one_pass" or "supervised" (a video to track), or "video" (a video to
            segment: its first frame is the support, the others are the query in order).
    """

    support: Examples | None
    query: Examples
    classes: tuple[str, ...]
    index: int = 0
    class_ids: tuple[int, ...] | None = None
    protocol: str = "episode"


class Detections(NamedTuple):
    """Detected objects of one image, by falling score.

    Args:
        boxes: ``(M, 4)`` float32, ``(x1, y1, x2, y2)`` in pixels.
        scores: ``(M,)`` in [0, 1].
        labels: ``(M,)`` int64, index into ``Episode.classes``.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Segmentation(NamedTuple):
    """Pixels of each asked class in one image.

    Args:
        masks: ``(N, H, W)`` bool, one for each class; a pixel may belong to several, or to none.
        label_map: ``(H, W)`` uint8: 0 where no mask is set, else 1 + the class with the highest score there.
        seconds: Time that this image took, its share of the adaptation included; None: not measured.
        probs: ``(N, H, W)`` float32, probability of each class at each pixel, before the threshold that made the masks;
            None: not known.
    """

    masks: Tensor
    label_map: Tensor
    seconds: float | None = None
    probs: Tensor | None = None
