"""Tiny detection data in the real layouts: dark noise with one pure red rectangle, where the only object's box is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (60, 40)  # width, height
RED = (255, 0, 0)


def draw(path: Path, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Write a photo and return its rectangle ``(x1, y1, x2, y2)``."""
    x1, y1 = (int(v) for v in rng.integers(1, 12, 2))
    x2, y2 = int(rng.integers(20, 58)), int(rng.integers(18, 38))
    photo = rng.integers(0, 60, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    photo[y1:y2, x1:x2] = RED
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(path, quality=100, subsampling=0)
    return x1, y1, x2, y2


def coco_record(folder: Path, names: list[str], classes: list[str], first: int = 0) -> dict:
    """Draw the photos and return their COCO json; photo i shows class i modulo the number of classes."""
    rng = np.random.default_rng(first)
    record = {"images": [], "annotations": [], "categories": [{"id": 7 * i, "name": c} for i, c in enumerate(classes)]}
    for i, name in enumerate(names, first):
        x1, y1, x2, y2 = draw(folder / name, rng)
        record["images"].append({"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        box = [x1, y1, x2 - x1, y2 - y1]
        category = 7 * (i % len(classes))
        record["annotations"].append({"id": i, "image_id": i, "category_id": category, "bbox": box, "iscrowd": 0})
    return record


def make_coco(folder: Path, classes: list[str], photos: int) -> Path:
    """Write ``coco`` into ``folder``; return ``folder``."""
    (folder / "coco/annotations").mkdir(parents=True, exist_ok=True)
    for part, first in (("train2017", 0), ("val2017", 1000)):
        names = [f"{i:012d}.jpg" for i in range(first, first + photos * len(classes))]
        record = coco_record(folder / "coco" / part, names, classes, first)
        (folder / f"coco/annotations/instances_{part}.json").write_text(json.dumps(record))
    return folder


def make_folder(folder: Path, classes: list[str], photos: int, asked: int = 3) -> Path:
    """Write one's own folder: labelled photos, one without a box, and ``query/``; return it."""
    record = coco_record(folder, [f"mine{i}.png" for i in range(photos * len(classes))], classes)
    for i in range(asked):
        draw(folder / f"query/q{i}.png", np.random.default_rng(i))
    draw(folder / "unlabelled.png", np.random.default_rng(9))
    (folder / "annotations.json").write_text(json.dumps(record))
    return folder


def xml(name: str, box: tuple, wnid: str, extra: str = "") -> str:
    """Return VOC's XML; VOC counts pixels from 1 and includes the last."""
    x1, y1, x2, y2 = box
    corners = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    thing = f"<object><name>{wnid}</name><difficult>0</difficult><bndbox>{corners}</bndbox>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    return f"<annotation><filename>{name}</filename>{size}{thing}{part}</object>{extra}</annotation>"


def make_voc(folder: Path, classes: list[str], photos: int) -> Path:
    """Write ``VOCdevkit`` into ``folder``; return ``folder``."""
    rng = np.random.default_rng(0)
    for year in ("2007", "2012"):
        root = folder / f"VOCdevkit/VOC{year}"
        names = [f"{year}_{i:06d}" for i in range(2 * photos * len(classes))]
        for part in ("Annotations", "ImageSets/Main"):
            (root / part).mkdir(parents=True)
        for i, name in enumerate(names):
            box = draw(root / f"JPEGImages/{name}.jpg", rng)
            difficult = xml("", (0, 0, 9, 9), "bird").split("</size>")[1].replace("<difficult>0", "<difficult>1")
            text = xml(name, box, classes[i % len(classes)], difficult.replace("</annotation>", ""))
            (root / f"Annotations/{name}.xml").write_text(text)
        half = len(names) // 2
        (root / "ImageSets/Main/trainval.txt").write_text("\n".join(names[:half]))
        (root / "ImageSets/Main/test.txt").write_text("\n".join(names[half:]))
    return folder


def make_ilsvrc(folder: Path, wnids: list[str], photos: int) -> Path:
    """Write ``ILSVRC`` into ``folder``; return ``folder``."""
    rng = np.random.default_rng(0)
    for wnid in wnids:
        tables = folder / "ILSVRC/Annotations/CLS-LOC/train" / wnid
        tables.mkdir(parents=True)
        for i in range(photos):
            box = draw(folder / f"ILSVRC/Data/CLS-LOC/train/{wnid}/{wnid}_{i}.JPEG", rng)
            (tables / f"{wnid}_{i}.xml").write_text(xml(f"{wnid}_{i}", box, wnid))
    return folder


def make_yolo(folder: Path, classes: list[str], photos: int) -> Path:
    """Write ``coco128`` into ``folder``; return ``folder``."""
    rng, root = np.random.default_rng(0), folder / "coco128"
    for part in ("train2017", "val2017"):
        labels = root / "object_detection/labels" / part
        labels.mkdir(parents=True)
        for i in range(photos * len(classes)):
            x1, y1, x2, y2 = draw(root / f"images/{part}/{part}{i}.jpg", rng)
            row = [(x1 + x2) / 2 / SIZE[0], (y1 + y2) / 2 / SIZE[1], (x2 - x1) / SIZE[0], (y2 - y1) / SIZE[1]]
            (labels / f"{part}{i}.txt").write_text(f"{i % len(classes)} " + " ".join(map(str, row)))
    table = "\n".join(f"  {i}: {name}" for i, name in enumerate(classes))
    (root / "object_detection/config.yaml").write_text(f"names:\n{table}\n")
    return folder


def make_all(root: Path) -> None:
    """Make every layout that an experiment reads."""
    from datamodules.detection.imagenet_loc import read_classes

    classes = read_classes()
    make_coco(root, ["person", "bicycle", "car", "zebra", "giraffe", "kite", "fork"], 6)
    make_voc(root, ["bird", "bus", "cow", "dog", "cat", "car", "person"], 6)
    make_yolo(root, ["person", "bicycle", "car", "zebra", "giraffe", "kite", "fork"], 6)
    make_ilsvrc(root, [*list(classes["novel"].values())[:3], *list(classes["train"].values())[:3]], 40)
    make_folder(root / "my-photos", ["person", "bicycle", "car", "zebra", "giraffe", "kite", "fork"], 12)
