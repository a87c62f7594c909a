"""Damaged files: every reader of photos and annotations takes 200 of them with a ValueError that names the file."""

import importlib.util
import io
import json
import os
import resource
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.characters.omniglot_files import read_run
from datamodules.detection.folder import FolderDetection
from datamodules.detection.imagenet_loc import plan_published, read_classes
from datamodules.detection.voc import read_xml
from datamodules.images.coco import read_coco
from datamodules.images.davis import read_sequences
from datamodules.images.reading import SkippedItems
from datamodules.images.tiny_imagenet import read_tiny_imagenet, read_titles
from datamodules.images.yolo import read_yolo_photos
from datamodules.segmentation.camvid import CamVid
from datamodules.segmentation.coco20i import Coco20i
from datamodules.segmentation.coco_panoptic import CocoPanoptic
from datamodules.segmentation.folder_masks import FolderMasks
from datamodules.segmentation.fss1000 import FSS1000
from datamodules.segmentation.pascal5i import read_entries
from lightning_fewshot.images import image_size, read_image, read_mask
from lightning_fewshot.sampling import read_episodes
from lightning_fewshot.text import read_json

MUTATIONS = 200
MOST_BYTES = 100e6
ODD = [None, True, "", "x", -1, 0, 2**40, 10**400, 1e308, float("nan"), [], {}, [[]], "../../a.jpg", "/etc/passwd"]
ODD += ["a\0b", "\ud800", "a" * 5000, [1] * 1000, {"a": {"b": []}}]
BYTES = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\n\n",
    b"\t",
    b",",
    b"-",
    b"1e999",
    b"9" * 400,
    b"<!--",
    b"&lol;",
    b"*a",
    b"[" * 3000,
]


PHOTOS = {wnid: [f"{wnid}_{i}" for i in range(12)] for wnid in read_classes()["novel"].values()}


def load(name):
    spec = importlib.util.spec_from_file_location(f"make_{name}", Path(__file__).parents[2] / f"data/{name}/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mutated_bytes(raw, rng):
    """Cut, change, insert or repeat some bytes."""
    place = int(rng.integers(len(raw) + 1))
    kind = rng.integers(5)
    if kind == 0:
        return raw[:place]
    if kind == 1:
        return raw[:place] + BYTES[rng.integers(len(BYTES))] + raw[place:]
    if kind == 2:
        return raw[:place] + bytes(rng.integers(0, 256, 1 + int(rng.integers(8)), dtype=np.uint8)) + raw[place + 4 :]
    if kind == 3:
        return raw[:place] + raw[place + 1 + int(rng.integers(20)) :]
    return raw[:place] + raw[: int(rng.integers(200))] + raw[place:]


def mutated_json(raw, rng):
    """Exchange a value for one of another kind, or drop a key; sometimes only bytes."""
    if rng.random() < 0.3:
        return mutated_bytes(raw, rng)
    record = json.loads(raw)
    for _ in range(1 + int(rng.integers(3))):
        places = list(containers(record))
        where = places[rng.integers(len(places))]
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            continue
        key = keys[rng.integers(len(keys))]
        if rng.random() < 0.25:
            del where[key]
        else:
            where[key] = ODD[rng.integers(len(ODD))]
    return json.dumps(record).encode()


def containers(value):
    """Yield all lists and dicts within a json."""
    if isinstance(value, (dict, list)):
        yield value
        for inner in list(value.values() if isinstance(value, dict) else value):
            yield from containers(inner)


def read_voc(path):
    read_xml(path, path.parent / "a.jpg", SkippedItems())


def read_published(path):
    plan_published(read_json(path), PHOTOS, str(path))


def of_photos(make, root):
    """Return a reader that reads all photos of a data set and the masks or boxes of one."""

    def read(path):
        data = make(str(root))
        photos = list(data.catalog.photos.values())
        for photo in photos[:2]:
            data.photos.read(photo) if hasattr(data, "read_mask") else data.read(photo, photo.boxes, None)

    return read


def write_image(path, image):
    image.save(path)
    return path


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """What is read, and by what: name -> (file that is damaged, reader)."""
    tmp_path = tmp_path_factory.mktemp("fuzz")
    photos, masks = load("photos"), load("masks")
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    voc = photos.make_voc(tmp_path / "voc", ["bird"], 1) / "VOCdevkit/VOC2007"
    picture.save(voc / "Annotations/a.jpg")
    folder = photos.make_folder(tmp_path / "folder", ["a", "b"], 2)
    yolo = photos.make_yolo(tmp_path / "yolo", ["person"], 1)
    own = masks.make_folder_masks(tmp_path / "own")
    for mask in sorted((own / "masks").iterdir())[3:]:
        mask.unlink()
    coco = photos.make_coco(tmp_path / "coco", ["a", "b"], 1) / "coco"
    for part in ("train", "val"):
        path = coco / f"annotations/instances_{part}2017.json"
        record = json.loads(path.read_text())
        for i, row in enumerate(record["annotations"]):
            row["segmentation"] = [[1, 1, 20, 1, 20, 20]] if i else {"counts": [1, 59, 40 * 60 - 60], "size": [40, 60]}
        path.write_text(json.dumps(record))
    panoptic = write_panoptic(tmp_path / "panoptic/coco", picture)
    tiny = tmp_path / "tiny/train/n01443537"
    (tiny / "images").mkdir(parents=True)
    picture.resize((64, 64)).save(tiny / "images/a.JPEG")
    (tiny / "n01443537_boxes.txt").write_text("a.JPEG\t1\t2\t30\t40\nb.JPEG\t1\t2\t30\t40\n")
    (tmp_path / "tiny/words.txt").write_text("n01443537\tgoldfish, Carassius\n")
    (tmp_path / "davis.txt").write_text("/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png\nbike\n")
    (tmp_path / "fold0.txt").write_text("2007_000032__01\n2007_000033__20\n")
    plan = {"classes": ["a", "b"], "support": [["x"], ["y"]], "query": [["u", 3], ["v"]]}
    (tmp_path / "episodes.json").write_text(json.dumps({"episodes": [plan, plan]}))
    number = str(next(iter(read_classes()["novel"])))
    published = {"epi_cats": [int(number)], "train_nImg": {number: [7]}, "query_images": {number: [8, 9]}}
    (tmp_path / "published.json").write_text(json.dumps([published]))
    run = tmp_path / "run01"
    run.mkdir()
    Image.new("L", (105, 105), 255).save(run / "a.png")
    (run / "class_labels.txt").write_text("run01/a.png run01/a.png\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    picture.convert("P").save(tmp_path / "a.gif")
    return {
        "jpeg": (tmp_path / "a.jpg", lambda p: (read_image(p), image_size(p))),
        "png": (write_image(tmp_path / "a.png", picture), lambda p: (read_image(p), image_size(p))),
        "tiff": (write_image(tmp_path / "a.tif", picture), lambda p: (read_image(p), image_size(p))),
        "webp": (write_image(tmp_path / "a.webp", picture), lambda p: (read_image(p), image_size(p))),
        "gif": (tmp_path / "a.gif", lambda p: (read_image(p), image_size(p))),
        "bmp": (write_image(tmp_path / "a.bmp", picture), lambda p: (read_image(p), image_size(p))),
        "mask": (own / "masks/mine0.png", lambda p: (read_mask(p), of_photos(FolderMasks, own)(p))),
        "masked photo": (own / "images/mine0.png", of_photos(FolderMasks, own)),
        "classes.txt": (own / "classes.txt", of_photos(FolderMasks, own)),
        "coco": (folder / "annotations.json", lambda p: read_coco(p, folder)),
        "folder": (folder / "annotations.json", of_photos(FolderDetection, folder)),
        "coco20i": (coco / "annotations/instances_train2017.json", of_photos(coco20i, coco)),
        "panoptic": (panoptic / "annotations/panoptic_train2017.json", of_photos(CocoPanoptic, panoptic)),
        "voc": (voc / "Annotations/2007_000000.xml", read_voc),
        "yolo labels": (next(yolo.rglob("train20170.txt")), lambda p: read_yolo_photos(str(yolo))),
        "yolo names": (yolo / "coco128/object_detection/config.yaml", lambda p: read_yolo_photos(str(yolo))),
        "tiny imagenet": (tiny / "n01443537_boxes.txt", lambda p: read_tiny_imagenet(tmp_path / "tiny")),
        "titles": (tmp_path / "tiny/words.txt", lambda p: read_titles(tmp_path / "tiny")),
        "davis": (tmp_path / "davis.txt", read_sequences),
        "pascal5i": (tmp_path / "fold0.txt", read_entries),
        "episodes": (tmp_path / "episodes.json", read_episodes),
        "published episodes": (tmp_path / "published.json", read_published),
        "omniglot run": (run / "class_labels.txt", lambda p: read_run(p.parent, 28)),
        "camvid": camvid(tmp_path / "camvid", masks),
        "fss1000": fss1000(tmp_path / "fss", picture),
    }


def coco20i(root):
    return Coco20i(root, year="2017")


def camvid(root, masks):
    for part in ("train", "val"):
        values = masks.draw(root / part / "a.png", 0, 3)
        masks.write(root / f"{part}annot/a.png", values)
    return root / "trainannot/a.png", of_photos(CamVid, root)


def fss1000(root, picture):
    (root / "cup").mkdir(parents=True)
    picture.save(root / "cup/1.jpg")
    picture.convert("L").save(root / "cup/1.png")
    return root / "cup/1.png", of_photos(FSS1000, root)


def write_panoptic(root, picture):
    (root / "annotations").mkdir(parents=True)
    for part in ("train2017", "val2017"):
        (root / part).mkdir()
        (root / f"annotations/panoptic_{part}").mkdir()
        picture.save(root / part / f"{part}.png")
        Image.new("RGB", picture.size, (7, 0, 0)).save(root / f"annotations/panoptic_{part}/{part}.png")
        segment = {"id": 7, "category_id": 1, "area": 700, "iscrowd": 0}
        record = {
            "images": [{"id": 1, "file_name": f"{part}.png", "width": 32, "height": 24}],
            "annotations": [{"image_id": 1, "file_name": f"{part}.png", "segments_info": [segment]}],
            "categories": [{"id": 1, "name": "cup", "isthing": 1}],
        }
        (root / f"annotations/panoptic_{part}.json").write_text(json.dumps(record))
    return root


NAMES = ["jpeg", "png", "tiff", "webp", "gif", "bmp", "mask", "masked photo", "classes.txt", "coco", "folder"]
NAMES += ["coco20i", "panoptic", "voc", "yolo labels", "yolo names", "tiny imagenet", "titles", "davis", "pascal5i"]
NAMES += ["episodes", "published episodes", "omniglot run", "camvid", "fss1000"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_named_or_counted(readers, name):
    path, read = readers[name]
    raw, rng = path.read_bytes(), np.random.default_rng(len(name))
    mutated = mutated_json if path.suffix == ".json" else mutated_bytes
    root = path.parents[[p.name.startswith("fuzz") for p in path.parents].index(True)]
    read(path)
    refused, began, memory = 0, time.perf_counter(), most_memory()
    try:
        for i in range(MUTATIONS):
            path.write_bytes(mutated(raw, rng))
            said = what_is_said(read, path, i)
            assert not said or path.name in said or str(root) in said, f"mutation {i} names no file: {said[:300]}"
            refused += bool(said)
    finally:
        path.write_bytes(raw)
    assert refused, "the mutations do no damage"
    assert most_memory() - memory < MOST_BYTES
    assert time.perf_counter() - began < 30


def what_is_said(read, path, number):
    """Return the error of a reader; fail if it is none that a person can use."""
    try:
        read(path)
    except UnicodeError as error:
        pytest.fail(f"mutation {number}: {error}")
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    except Exception as error:
        pytest.fail(f"mutation {number}: {type(error).__name__}: {str(error)[:300]}")
    return ""


def most_memory():
    """Return the most memory that the process ever had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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
