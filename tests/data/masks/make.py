"""Tiny segmentation data in the real layouts: dark noise with bright rectangles, whose brightness tells the class.

Photo i shows class i modulo the number of classes, and below it a little of the next class.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (60, 40)  # width, height
STEP = 8  # grey levels between classes; class i is 255 - STEP * i


def draw(path: Path, index: int, n_classes: int, seed: int = 0) -> np.ndarray:
    """Write a photo; return its labels ``(H, W)`` uint8, 1 + i for class i."""
    rng = np.random.default_rng([seed, index])
    labels = np.zeros(SIZE[::-1], np.uint8)
    x, y = (int(v) for v in rng.integers(2, 20, 2))
    labels[y : y + 14, x : x + 24] = 1 + index % n_classes
    labels[36:, 50:] = 1 + (index + 1) % n_classes
    photo = rng.integers(0, 20, (*labels.shape, 3))
    photo[labels > 0] = (255 - STEP * (labels[labels > 0].astype(int) - 1))[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo.astype(np.uint8)).save(path, quality=100, subsampling=0)
    return labels


def write(path: Path, values: np.ndarray) -> None:
    """Write a mask as grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def make_pascal5i(folder: Path, photos: int = 60) -> Path:
    """Write ``pascal5i`` with published lists, and VOC2012's photos; even photos are for training."""
    lists: dict[tuple[str, int], list[str]] = {(p, f): [] for p in ("trn", "val") for f in range(4)}
    for i in range(photos * 2):
        name, part, number = f"2007_{i:06d}", "trn" if i % 2 == 0 else "val", (i // 2) % 20
        labels = draw(folder / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg", i // 2, 20, seed=i % 2)
        labels[0] = 255
        write(folder / f"pascal5i/SegmentationClassAug/{name}.png", labels)
        lists[part, number // 5].append(f"{name}__{number + 1:02d}")
    for (part, fold), lines in lists.items():
        path = folder / f"pascal5i/splits/{part}/fold{fold}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    return folder


def make_voc_sbd(folder: Path, photos: int = 60) -> Path:
    """Write ``VOCdevkit/VOC2012`` and SBD's ``benchmark_RELEASE``; odd photos are in val, others have .mat masks."""
    voc, sbd = folder / "VOCdevkit/VOC2012", folder / "benchmark_RELEASE/dataset"
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (sbd / "cls").mkdir(parents=True)
    names = [f"2008_{i:06d}" for i in range(photos * 2)]
    for i, name in enumerate(names):
        labels = draw(voc / f"JPEGImages/{name}.jpg", i // 2, 20, seed=i % 2)
        if i % 2 or i < 4:
            labels[0] = 255
            write(voc / f"SegmentationClass/{name}.png", labels)
        else:
            record = np.zeros((1, 1), [("Boundaries", object), ("Segmentation", object), ("CategoriesPresent", object)])
            record["Segmentation"][0, 0] = labels
            savemat(sbd / f"cls/{name}.mat", {"GTcls": record})
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n".join(names[:4:2]))
    (voc / "ImageSets/Segmentation/val.txt").write_text("\n".join(names[1::2]))
    (sbd / "train.txt").write_text("\n".join([*names[4::2], names[1]]))  # one of VOC's val photos too: footnote 1
    return folder


def make_camvid(folder: Path, photos: int = 44) -> Path:
    """Write ``camvid``: classes are numbered from 0, void is 11."""
    for part in ("train", "val"):
        for i in range(photos):
            labels = draw(folder / f"camvid/{part}/{part}{i}.jpg", i, 11, seed=part == "val").astype(int) - 1
            write(folder / f"camvid/{part}annot/{part}{i}.png", np.where(labels < 0, 11, labels).astype(np.uint8))
    return folder


def make_pets(folder: Path, photos: int = 4) -> Path:
    """Write ``oxford-pets-3`` with trimaps: 1 pet, 2 background, 3 border."""
    for b, breed in enumerate(("Abyssinian", "Bengal", "american_bulldog", "pug", "Sphynx")):
        for i in range(photos):
            labels = draw(folder / f"oxford-pets-3/images/{breed}_{i}.jpg", b, 200, seed=i)
            trimap = np.where(labels == b + 1, 1, 2).astype(np.uint8)
            trimap[0] = 3
            write(folder / f"oxford-pets-3/annotations/trimaps/{breed}_{i}.png", trimap)
    return folder


def make_fss(folder: Path, classes: int = 12, photos: int = 4) -> Path:
    """Write ``fewshot_data``: color masks, black and white."""
    for c in range(classes):
        for i in range(photos):
            labels = draw(folder / f"fewshot_data/class{c:02d}/{i + 1}.jpg", c, 200, seed=i)
            mask = np.where(labels == c + 1, 255, 0).astype(np.uint8)
            write(folder / f"fewshot_data/class{c:02d}/{i + 1}.png", np.repeat(mask[..., None], 3, axis=2))
    return folder


def make_coco20i(folder: Path, classes: int = 8, photos: int = 4, year: str = "2014") -> Path:
    """Write ``coco`` with polygons; in the last photo a crowd."""
    categories = [{"id": 3 * i + 1, "name": f"thing{i}"} for i in range(classes)]
    (folder / "coco/annotations").mkdir(parents=True, exist_ok=True)
    for part in ("train", "val"):
        record = {"images": [], "annotations": [], "categories": categories}
        for i in range(photos * classes):
            name = f"COCO_{part}{year}_{i:012d}.jpg"
            labels = draw(folder / f"coco/{part}{year}/{name}", i, classes, seed=part == "val")
            record["images"].append({"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
            for number in np.unique(labels[labels > 0]).tolist():
                rows, columns = np.nonzero(labels == number)
                x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                corners = [x1, y1, x2, y1, x2, y2, x1, y2]
                row = {"image_id": i, "category_id": 3 * (number - 1) + 1, "iscrowd": 0, "area": len(rows)}
                record["annotations"].append({**row, "segmentation": [[float(v) for v in corners]]})
        counts = [0, SIZE[1], (SIZE[0] - 1) * SIZE[1]]  # the first column is a crowd
        crowd = {"size": list(SIZE[::-1]), "counts": counts}
        record["annotations"].append({**record["annotations"][-1], "iscrowd": 1, "area": 40, "segmentation": crowd})
        (folder / f"coco/annotations/instances_{part}{year}.json").write_text(json.dumps(record))
    return folder


def make_panoptic(folder: Path, classes: int = 8, photos: int = 4) -> Path:
    """Write ``coco`` with panoptic masks; odd classes are stuff; the background is no segment."""
    categories = [{"id": 3 * i + 1, "name": f"thing{i}", "isthing": int(i % 2 == 0)} for i in range(classes)]
    (folder / "coco/annotations").mkdir(parents=True, exist_ok=True)
    for part in ("train2017", "val2017"):
        record = {"images": [], "annotations": [], "categories": categories}
        first = 60000 if part == "val2017" else 50000
        for i in range(first, first + photos * classes):
            labels = draw(folder / f"coco/{part}/{i:012d}.jpg", i, classes)
            record["images"].append({"id": i, "file_name": f"{i:012d}.jpg", "width": SIZE[0], "height": SIZE[1]})
            ids = labels.astype(int) * 70000  # all three color channels matter
            channels = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=2).astype(np.uint8)
            write(folder / f"coco/annotations/panoptic_{part}/{i:012d}.png", channels)
            segments = [
                {"id": 70000 * n, "category_id": 3 * (n - 1) + 1, "iscrowd": 0, "area": int((labels == n).sum())}
                for n in np.unique(labels[labels > 0]).tolist()
            ]
            record["annotations"].append({"image_id": i, "file_name": f"{i:012d}.png", "segments_info": segments})
        (folder / f"coco/annotations/panoptic_{part}.json").write_text(json.dumps(record))
    return folder


def make_folder_masks(folder: Path, classes=("cup", "pen", "key"), photos: int = 12, asked: int = 3) -> Path:
    """Write one's own folder: photos with masks, one without, and ``query/``; values are 10, 20, ..."""
    for i in range(photos):
        labels = draw(folder / f"images/mine{i}.png", i, len(classes))
        write(folder / f"masks/mine{i}.png", labels * 10)
    draw(folder / "images/unmasked.png", 99, len(classes))
    for i in range(asked):
        draw(folder / f"query/q{i}.png", 50 + i, len(classes))
    (folder / "classes.txt").write_text("".join(f"{10 * (i + 1)} {name}\n" for i, name in enumerate(classes)))
    return folder


def make_davis(folder: Path, sequences: int = 3, trained: int = 3, frames: int = 5) -> Path:
    """Write ``davis``, with boxes: val.txt as published, with a line a frame, train.txt with a line a sequence."""
    names = {part: [f"{part}{i}" for i in range(n)] for part, n in (("train", trained), ("val", sequences))}
    root, places = folder / "davis", ("JPEGImages/480p", "Annotations/480p")
    for number, name in enumerate((*names["train"], *names["val"])):
        for i in range(frames):
            labels = draw(root / places[0] / name / f"{i:05d}.jpg", number, 200, seed=i)
            path = root / places[1] / name / f"{i:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels == number + 1).save(path)
            _append_box(root / "Boxes" / name / "groundtruth.txt", labels == number + 1)
    lists = root / "ImageSets/480p"
    lists.mkdir(parents=True)
    lines = [f"/{places[0]}/{n}/{i:05d}.jpg /{places[1]}/{n}/{i:05d}.png" for n in names["val"] for i in range(frames)]
    (lists / "val.txt").write_text("\n".join(lines))
    if trained:
        (lists / "train.txt").write_text("\n".join(names["train"]))
    return folder


def make_all(root: Path) -> None:
    """Make every layout that an experiment reads."""
    for make in (make_pascal5i, make_camvid, make_pets, make_fss, make_coco20i, make_davis):
        make(root)
    make_panoptic(root, classes=16)  # eight things, two of them in a fold
    make_folder_masks(root / "my-masks")


def _append_box(path: Path, mask: np.ndarray) -> None:
    """Append the box of a mask: x, y, w, h."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    with path.open("a") as file:
        file.write(f"{columns[0]},{rows[0]},{np.ptp(columns) + 1},{np.ptp(rows) + 1}\n")
