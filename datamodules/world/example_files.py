"""Small folders of each task, drawn: what ``python -m lightning_fewshot example DIR`` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datamodules.world.appearance import ObjectClass, class_seeds, make_class
from datamodules.world.draw import Scene, draw_scene
from datamodules.world.motion import Motion
from datamodules.world.sprite import Variation
from datamodules.world.video import Video, draw_video
from lightning_fewshot.files import write_atomically
from lightning_fewshot.sampling import episode_rng

SEED = 7
SIDE = 256  # pixels of a picture
CLASSES = ("kite", "turtle", "moon")  # what the three drawn classes are called
SHOTS, QUERIES = 2, 2  # pictures of each class with and without what is known of them
FRAMES, FPS, TARGETS = 60, 25, 2
LOOKS_ALIKE = Variation(rotation=20.0, repaint=0.0)  # a class is to be found again by what ImageNet's features see

README = """\
# Examples

Drawn by `python -m lightning_fewshot example`; nothing here is a photo. Run these in the folder of the project.

## segment: masks of a few images, the others are segmented

    python -m lightning_fewshot predict --config experiments/segment.yaml --data.root {root}/segment

`images/` and `masks/` have the same names, `classes.txt` names the values of the masks, `query/` is predicted.
Nothing has to be trained; needs `pip install -e '.[pretrained]'`.

## classify: a folder of examples for each class, the images in `query/` are named

    python -m lightning_fewshot predict --config experiments/classify.yaml --data.root {root}/classify

`<class>/*.png` are the examples, `query/*.png` are to be classified. Nothing has to be trained either.

## track: the boxes of a first frame are followed

    python -m lightning_fewshot predict --config experiments/tracking/video.yaml \\
        --data.video {root}/track/clip.mp4 {boxes}

`box.txt` holds those boxes, one a line: x,y,width,height. The tracker's weights come with the package; `--ckpt_path`
gives those of another one.

## detect: boxes of a few images, the others are searched

    python -m lightning_fewshot fit --config experiments/repmet.yaml
    python -m lightning_fewshot predict --config experiments/repmet.yaml --config experiments/data/folder.yaml \\
        --data.root {root}/detect --data.images.short_side 128 \\
        --ckpt_path runs/repmet/latest/checkpoints/best.ckpt

`annotations.json` is COCO's; images that it gives no box are predicted. A detector has to be trained first; this one
saw scenes of 128 pixels, and so images are scaled to that. Boxes and pictures are in the images' own size.
"""


def write_examples(folder: str | Path) -> Path:
    """Write ``segment/``, ``classify/``, ``detect/``, ``track/`` and a README; the same bytes every time.

    Args:
        folder: Made if missing; must be empty.

    Raises:
        ValueError: It holds something.
        OSError: It cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: name a new folder")
    _write_segment(folder / "segment")
    _write_classify(folder / "classify")
    _write_detect(folder / "detect")
    boxes = _write_track(folder / "track")
    options = " ".join(f"--data.box {box}" for box in boxes)
    write_atomically(folder / "README.md", README.format(root=folder.as_posix(), boxes=options))
    return folder


def _write_segment(folder: Path) -> None:
    for c, name in enumerate(CLASSES):
        for i in range(SHOTS):
            scene = _scene(f"segment{c}{i}", [c])
            _write_png(folder / "images" / f"{name}_{i + 1}.png", scene.image)
            _write_png(folder / "masks" / f"{name}_{i + 1}.png", _label_map(scene))
        for i in range(QUERIES):
            image = _scene(f"segment query{c}{i}", [c, (c + 1) % len(CLASSES)]).image
            _write_png(folder / "query" / f"{name}_{i + 1}.png", image)
    write_atomically(folder / "classes.txt", "".join(f"{1 + c} {name}\n" for c, name in enumerate(CLASSES)))


def _write_classify(folder: Path) -> None:
    for c, name in enumerate(CLASSES):
        for i in range(SHOTS + QUERIES):
            path = folder / name / f"{i + 1}.png" if i < SHOTS else folder / "query" / f"{name}_{i + 1 - SHOTS}.png"
            _write_png(path, _scene(f"classify{c}{i}", [c], scale=(0.5, 0.7)).image)


def _write_detect(folder: Path) -> None:
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for c, name in enumerate(CLASSES):
        for i in range(SHOTS):
            scene, file = _scene(f"detect{c}{i}", [c]), f"{name}_{i + 1}.png"
            _write_png(folder / "images" / file, scene.image)
            images.append({"id": len(images) + 1, "file_name": file, "width": SIDE, "height": SIDE})
            boxes += _coco_boxes(scene, len(images), len(boxes))
        for i in range(QUERIES):
            image = _scene(f"detect query{c}{i}", [c, (c + 1) % len(CLASSES)]).image
            _write_png(folder / "query" / f"{name}_{i + 1}.png", image)
    categories = [{"id": 1 + c, "name": name} for c, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    write_atomically(folder / "annotations.json", json.dumps(content, indent=1))


def _coco_boxes(scene: Scene, image: int, before: int) -> list[dict[str, Any]]:
    rows = []
    for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
        x1, y1, x2, y2 = box
        row = {"id": before + len(rows) + 1, "image_id": image, "category_id": 1 + label, "iscrowd": 0}
        rows.append({**row, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
    return rows


def _write_track(folder: Path) -> list[str]:
    """Write the video and the boxes of its first frame; return them as the command line takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    video = _video()
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), FPS, (SIDE, SIDE))
    if not writer.isOpened():
        raise OSError(f"cannot write the video {folder / 'clip.mp4'}")
    for t in range(FRAMES):
        writer.write(np.ascontiguousarray(video.frame(t).image[..., ::-1]))
    writer.release()
    boxes = [_as_text(box) for box in _first_boxes(video)]
    write_atomically(folder / "box.txt", "".join(f"{box}\n" for box in boxes))
    return boxes


def _first_boxes(video: Video) -> np.ndarray:
    """Return the boxes of frame 0: of the object that the video is about, then of those that move beside it."""
    return np.concatenate([video.truth(0)[0][None], video.other_boxes(0)])


def _video() -> Video:
    """Plan a video in which nothing leaves the picture or is covered for long."""
    target, other, *clutter = (make_class(seed) for seed in class_seeds("test")[10:15])
    return draw_video(
        _rng("track"),
        target,
        FRAMES,
        size=SIDE,
        scale=(0.2, 0.28),
        distractors=[other] * (TARGETS - 1),
        clutter=clutter,
        motion=Motion(period=(80.0, 200.0), pan=0.2, grow=0.2, flicker=0.1, leave_every=0, cover_every=0),
    )


def _as_text(box: np.ndarray) -> str:
    x1, y1, x2, y2 = (round(v) for v in box.tolist())
    return f"{x1},{y1},{x2 - x1},{y2 - y1}"


def _classes() -> list[ObjectClass]:
    return [make_class(seed) for seed in class_seeds("test")[: len(CLASSES)]]


def _scene(stream: str, labels: Sequence[int], scale: tuple[float, float] = (0.35, 0.5)) -> Scene:
    classes = _classes()
    objects = [classes[label] for label in labels]
    plain = {"n_occluders": (0, 0), "variation": LOOKS_ALIKE}
    return draw_scene(_rng(stream), objects, labels=labels, size=SIDE, scale=scale, **plain)


def _rng(stream: str) -> np.random.Generator:
    return episode_rng(SEED, "example", 0, stream)


def _label_map(scene: Scene) -> np.ndarray:
    values = np.zeros((SIDE, SIDE), np.uint8)
    for mask, label in zip(scene.masks, scene.labels.tolist(), strict=True):
        values[mask] = 1 + label
    return values


def _write_png(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
