"""YOLO's annotations as tools write them: every usual layout and line."""

import numpy as np
import pytest
from annotated_photos import BOX, photo

from datamodules.images.roots import find_root
from datamodules.images.yolo import DOWNLOAD, read_yolo_photos

LINE = f"0 {19 / 80} {16 / 60} {22 / 80} {20 / 60}"


@pytest.mark.parametrize(
    ("images", "labels", "config"),
    [
        ("images/train", "object_detection/labels/train", "object_detection/config.yaml"),
        ("images/train", "labels/train", "data.yaml"),
        ("train/images", "train/labels", "data.yaml"),
        ("images", "labels", "dataset.yaml"),
    ],
)
def test_every_usual_layout_of_yolo_is_read(tmp_path, images, labels, config):
    photo(tmp_path / images / "a.JPG")
    photo(tmp_path / images / "none.jpg")
    for path, text in ((labels, f"{LINE}\n\n"), (f"{labels}/..", "")):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        (tmp_path / labels / "a.txt").write_text(text) if text else None
    (tmp_path / config).parent.mkdir(exist_ok=True)
    (tmp_path / config).write_text("names: [bolt]\n")
    read = {photo.name: photo for photo in read_yolo_photos(str(tmp_path))}
    assert set(read) == {"a.JPG", "none.jpg"}
    np.testing.assert_allclose(read["a.JPG"].boxes, [BOX], atol=1e-4)
    assert read["none.jpg"].classes == ()


@pytest.mark.parametrize(
    "text",
    [
        LINE.replace(" ", "\t"),
        LINE.replace(" ", ", "),
        f"\ufeff{LINE}\r\n\r\n",
        f"# made by a tool\r{LINE}\r",
        "0 0.1 0.1 0.375 0.1 0.375 0.4333333 0.1 0.4333333",
        LINE.replace("0 ", "0.0 ", 1),
    ],
)
def test_lines_of_yolo_in_any_dress_are_one_box(tmp_path, text):
    photo(tmp_path / "images/train/a.jpg")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_bytes(text.encode())
    (tmp_path / "data.yaml").write_text("names: {0: bolt}\n")
    (read,) = read_yolo_photos(str(tmp_path))
    np.testing.assert_allclose(read.boxes, [BOX], atol=1e-3)


@pytest.mark.parametrize("line", ["0 0.1 0.1 0.2", "0 0.1 0.1 0.2 0.2 0.9", "5 0.1 0.1 0.2 0.2", "0 a b c d"])
def test_other_lines_of_yolo_are_named(tmp_path, line):
    photo(tmp_path / "images/train/a.jpg")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text(f"{LINE}\n\n{line}\n")
    (tmp_path / "data.yaml").write_text("names: {0: bolt}\n")
    with pytest.raises(ValueError, match=r"a\.txt line 3 is no YOLO label of these 1 classes"):
        read_yolo_photos(str(tmp_path))


def test_labels_without_a_photo_are_counted(tmp_path):
    photo(tmp_path / "images/train/a.jpg")
    (tmp_path / "labels/train").mkdir(parents=True)
    for name in ("a", "b", "._a"):
        (tmp_path / f"labels/train/{name}.txt").write_text(LINE)
    (tmp_path / "data.yaml").write_text("names: {0: bolt}\n")
    with pytest.warns(UserWarning, match=r"skipped 1 boxes of .*: labels/train/b.txt \(no photo of that name\)"):
        read_yolo_photos(str(tmp_path))


def test_a_missing_root_is_one_clear_message(monkeypatch):
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    text = r"no root is given for coco128: set FEWSHOT_DATA or --data\.root .* exist: \$FEWSHOT_DATA/coco128/images, "
    with pytest.raises(FileNotFoundError, match=text):
        find_root(None, DOWNLOAD)
