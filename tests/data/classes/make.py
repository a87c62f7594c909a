"""Tiny data sets of class folders in their real layouts: photos of noise in the color of their class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 40


def photo(path: Path, number: int, rng: np.random.Generator) -> None:
    """Write one photo of class ``number``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = rng.integers(0, 60, (SIDE, SIDE + 8, 3), dtype=np.uint8)
    values[8:-8, 8:-8] = (255, 25 * (number % 10), 255 - 25 * (number % 10))
    Image.fromarray(values).save(path)


def make_folders(root: Path, classes: int = 8, photos: int = 6, suffix: str = ".jpg") -> Path:
    """Write ``<class>/<photo>`` folders."""
    rng = np.random.default_rng(0)
    for number in range(classes):
        for i in range(photos):
            photo(root / f"class{number}" / f"{i:04d}{suffix}", number, rng)
    return root


def make_cub(root: Path) -> None:
    """Write CUB-200-2011 with its lists."""
    folder, rng, names = root / "CUB_200_2011", np.random.default_rng(0), []
    for number in range(8):
        for i in range(6):
            names.append(f"{number + 1:03d}.Bird_{number}/Bird_{number}_{i:04d}.jpg")
            photo(folder / "images" / names[-1], number, rng)
    (folder / "images.txt").write_text("".join(f"{i + 1} {name}\n" for i, name in enumerate(names)))
    (folder / "train_test_split.txt").write_text("".join(f"{i + 1} {int(i % 6 < 4)}\n" for i in range(len(names))))


def make_grocery(root: Path) -> None:
    """Write GroceryStore with its training and validation lists."""
    folder, rng = root / "grocery", np.random.default_rng(0)
    rows = ["Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic,Description"]
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for number in range(8):
        rows.append(f"Fruit{number},{number},Kind{number // 2},{number // 2},/a.jpg,/a.txt")
        for part, count in {"train": 6, "val": 3}.items():
            for i in range(count):
                name = f"{part}/Fruit/Kind{number // 2}/Fruit{number}/Fruit{number}_{i:03d}.jpg"
                photo(folder / name, number, rng)
                lists[part].append(f"{name}, {number}, {number // 2}")
    (folder / "classes.csv").write_text("\n".join(rows) + "\n")
    for part, lines in lists.items():
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")


def make_miniimagenet(root: Path) -> None:
    """Write mini-ImageNet with the three lists."""
    folder, rng = root / "miniimagenet", np.random.default_rng(0)
    for first, part in enumerate(("train", "val", "test")):
        lines = ["filename,label"]
        for number in range(3 * first, 3 * first + 3):
            for i in range(6):
                name = f"n{number:08d}{i:08d}.jpg"
                photo(folder / "images" / name, number, rng)
                lines.append(f"{name},n{number:08d}")
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")


def make_pets(root: Path) -> None:
    """Write Oxford-IIIT Pets with its two lists."""
    folder, rng = root / "oxford-iiit-pet", np.random.default_rng(0)
    lists: dict[str, list[str]] = {"trainval": ["#Image CLASS-ID SPECIES BREED ID"], "test": []}
    for number in range(8):
        for i in range(6):
            name = f"Breed_of_{number}_{i}"
            photo(folder / "images" / f"{name}.jpg", number, rng)
            lists["trainval" if i < 4 else "test"].append(f"{name} {number + 1} 1 1")
    (folder / "annotations").mkdir(parents=True)
    for part, lines in lists.items():
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")


def make_dogs(root: Path) -> None:
    """Write Stanford Dogs with its two lists."""
    from scipy.io import savemat

    folder, rng = root / "stanford_dogs", np.random.default_rng(0)
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number in range(8):
        for i in range(6):
            name = f"n{number:08d}-Dog_{number}/n{number:08d}_{i}.jpg"
            photo(folder / "Images" / name, number, rng)
            lists["train" if i < 4 else "test"].append(name)
    for part, names in lists.items():
        rows = np.empty((len(names), 1), dtype=object)
        rows[:, 0] = names
        savemat(str(folder / f"{part}_list.mat"), {"file_list": rows})


def make_flowers(root: Path) -> None:
    """Write Oxford Flowers-102 with its labels and parts."""
    from scipy.io import savemat

    folder, rng = root / "flowers-102", np.random.default_rng(0)
    labels = np.repeat(np.arange(1, 9), 6)
    for i, label in enumerate(labels, start=1):
        photo(folder / f"jpg/image_{i:05d}.jpg", int(label), rng)
    numbers = np.arange(1, len(labels) + 1)
    parts = {"trnid": numbers[numbers % 6 < 3], "valid": numbers[numbers % 6 == 3], "tstid": numbers[numbers % 6 > 3]}
    savemat(str(folder / "imagelabels.mat"), {"labels": labels[None]})
    savemat(str(folder / "setid.mat"), {key: value[None] for key, value in parts.items()})


def make_attributes(root: Path) -> None:
    """Write ImageNet Attributes: three of six images of a synset were judged, and some by a shape or a color."""
    from scipy.io import savemat

    folder, names, labels = root / "imagenet_attributes", [], []
    rng = np.random.default_rng(0)
    for number in range(8):
        for i in range(6):
            photo(folder / f"images/n{number:08d}/n{number:08d}_{i}.JPEG", number, rng)
        names += [f"n{number:08d}_{i}" for i in range(3)]
        labels += [[1, -1, 0] if number % 2 else [-1, 1, 1]] * 3
    cells = [np.array(values, dtype=object)[:, None] for values in (names, ["red", "round", "shiny"])]
    savemat(str(folder / "attrann.mat"), {"attrann": {"images": cells[0], "attributes": cells[1], "labels": labels}})


def make_all(root: Path) -> None:
    """Make the layouts that the experiments read."""
    make_folders(root / "image_folder")
    photo(root / "image_folder/query/what.jpg", 0, np.random.default_rng(1))  # to predict
    for make in (make_cub, make_grocery, make_miniimagenet, make_pets, make_dogs, make_flowers, make_attributes):
        make(root)
