"""Files that would cost much or lead elsewhere are refused by name; what is skipped is said."""

import io
import json
import os
import warnings

import pytest
from makers import load
from photo_readers import read_voc
from PIL import Image

from datamodules.detection.folder import FolderDetection
from datamodules.images.coco import read_coco
from datamodules.images.davis import read_sequences
from datamodules.images.yolo import read_yolo_photos
from datamodules.segmentation.pascal5i import read_entries
from lightning_fewshot.images import image_size, read_image, read_mask
from lightning_fewshot.sampling import read_episodes


def test_declared_sizes_beyond_the_limit_are_refused_before_anything_is_decoded(tmp_path):
    file = io.BytesIO()
    Image.new("1", (8, 8)).save(file, "png")
    raw = bytearray(file.getvalue())
    raw[16:24] = (60000).to_bytes(4, "big") * 2
    from zlib import crc32

    raw[29:33] = crc32(bytes(raw[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bytes(raw))
    for read in (read_image, read_mask, image_size):
        with pytest.raises(ValueError, match=r"bomb\.png has too many pixels: 200000000 are the most"):
            read(tmp_path / "bomb.png")


def test_a_pipe_that_poses_as_a_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "a.json")
    for read in (read_image, read_mask, image_size):
        with pytest.raises(ValueError, match=r"a\.png is no regular file"):
            read(tmp_path / "a.png")
    for read in (read_episodes, lambda path: read_coco(path, tmp_path), lambda path: read_voc(path)):
        with pytest.raises(ValueError, match=r"a\.json is no regular file"):
            read(tmp_path / "a.json")


def test_aliases_that_stand_for_billions_of_names_are_refused(tmp_path):
    root = load("photos").make_yolo(tmp_path, ["person"], 1)
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    (root / "coco128/object_detection/config.yaml").write_text("\n".join([*lines, "names: *i", ""]))
    with pytest.raises(ValueError, match=r"config\.yaml has 81 aliases but 10 are the most"):
        read_yolo_photos(str(root))


def test_entities_that_stand_for_billions_of_letters_are_refused(tmp_path):
    entities = ['<!ENTITY a "lol">'] + [
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    text = f"<!DOCTYPE annotation [{''.join(entities)}]><annotation><object><name>&i;</name></object></annotation>"
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=r"a\.xml is truncated or no XML"):
        read_voc(tmp_path / "a.xml")


@pytest.mark.parametrize("name", ["../b.jpg", "/etc/passwd", "x/../../b.jpg", "..\\b.jpg", "C:\\b.jpg"])
def test_a_file_name_cannot_leave_its_folder(tmp_path, name):
    record = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": []}
    (tmp_path / "a.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"a\.json: images\[0\] names the file .* outside its folder"):
        read_coco(tmp_path / "a.json", tmp_path)
    (tmp_path / "fold0.txt").write_text(f"{name}__01\n")
    (tmp_path / "davis.txt").write_text(f"\n{name}\n")
    with pytest.raises(ValueError, match=r"fold0\.txt line 1"):
        read_entries(tmp_path / "fold0.txt")
    if name.startswith("/"):  # as in DAVIS's own lists
        assert read_sequences(tmp_path / "davis.txt") == ["etc"]
        return
    with pytest.raises(ValueError, match=r"davis\.txt line 2"):
        read_sequences(tmp_path / "davis.txt")


def test_what_is_skipped_is_said(tmp_path):
    folder = load("photos").make_folder(tmp_path, ["a", "b"], 2)
    record = json.loads((folder / "annotations.json").read_text())
    row = record["annotations"][0]
    record["annotations"] += [{**row, "image_id": 99, "id": 50}, {**row, "category_id": 99, "id": 51}, 7]
    record["annotations"] += [{**row, "bbox": [1, None, 3, 4], "id": 52}]
    (folder / "annotations.json").write_text(json.dumps(record))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert len(FolderDetection(str(folder)).catalog.photos) == 4
    (text,) = [str(w.message) for w in said]
    expected = ["50 (image_id 99 is not listed)", "51 (category_id 99 is not listed)", "6 (no entry", "52 (no box)"]
    assert all(part in text for part in expected), text
    assert text.startswith("skipped 4 boxes of annotations.json")
