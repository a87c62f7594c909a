"""Annotations as tools write them: what is unambiguous is taken, what is not is counted or named."""

import json

import numpy as np
import pytest
from PIL import Image

from datamodules.detection.folder import FolderDetection
from datamodules.detection.voc import read_xml
from datamodules.images.catalog import named_apart
from datamodules.images.coco import read_coco
from datamodules.images.coco_masks import draw, read_counts, read_mask_entry
from datamodules.images.reading import SkippedItems
from datamodules.images.roots import find_root
from datamodules.images.yolo import DOWNLOAD, read_yolo_photos
from datamodules.segmentation.folder_masks import FolderMasks
from datamodules.segmentation.settings import MaskedImages

BOX = [8, 6, 30, 26]
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 80, "height": 60}
ROW = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 6, 22, 20]}


def photo(path, size=(80, 60), exif=None):
    """Write a grey photo with a red rectangle at BOX."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((size[1], size[0], 3), 90, np.uint8)
    values[BOX[1] : BOX[3], BOX[0] : BOX[2]] = (200, 30, 30)
    Image.fromarray(values).save(path)
    return path


def coco(root, images, rows, names=("bolt",)):
    categories = [{"id": 1 + i, "name": name} for i, name in enumerate(names)]
    record = {"images": images, "annotations": rows, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(record))
    return root / "annotations.json"


def mask(path, size=(60, 80)):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(size, np.uint8)
    values[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    Image.fromarray(values).save(path)


# COCO ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "row"),
    [
        (IMAGE, {"image_id": "1"}),
        (IMAGE, {"category_id": "1"}),
        ({**IMAGE, "width": "80", "height": "60"}, {}),
        ({"id": 1, "file_name": "a.jpg"}, {}),
        ({**IMAGE, "width": 0, "height": None}, {}),
        ({**IMAGE, "file_name": ".\\a.jpg"}, {}),
        (IMAGE, {"bbox": ["8", "6", "22", "20"]}),
        (IMAGE, {"bbox": [], "segmentation": [[8, 6, 30, 6, 30, 26]]}),
        (IMAGE, {"bbox": None, "segmentation": [8, 6, 30, 6, 30, 26]}),
    ],
)
def test_what_is_unambiguous_in_a_coco_json_is_taken(tmp_path, image, row):
    photo(tmp_path / "a.jpg")
    (read,) = read_coco(coco(tmp_path, [image], [{**ROW, **row}]), tmp_path)
    assert read.boxes.tolist() == [BOX]
    assert (read.name, read.path, read.size) == ("a.jpg", tmp_path / "a.jpg", (80, 60))


@pytest.mark.parametrize(
    ("images", "names", "text"),
    [
        ([IMAGE, {**IMAGE, "id": 2}], ["bolt"], r"annotations\.json lists a\.jpg twice, as image 1 and 2"),
        ([IMAGE, {**IMAGE, "file_name": "b.jpg"}], ["bolt"], r"images\[1\] \(b\.jpg\) has the id 1 of a\.jpg"),
        ([IMAGE], [None], r"categories\[0\] has no id or no name"),
        ([{"id": 1}], ["bolt"], r"images\[0\] has the file name 'None' but must have a text"),
        ([7], ["bolt"], r"images\[0\] has no id"),
    ],
)
def test_what_is_ambiguous_in_a_coco_json_is_named(tmp_path, images, names, text):
    with pytest.raises(ValueError, match=text):
        read_coco(coco(tmp_path, images, [], names), tmp_path)


def test_a_bbox_of_another_length_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"annotations\.json: annotation 1 has a bbox of 8 numbers but COCO's have 4"):
        read_coco(coco(tmp_path, [IMAGE], [{**ROW, "bbox": [1] * 8}]), tmp_path)


def test_crowds_are_ignored_objects(tmp_path):
    crowd = {**ROW, "id": 2, "iscrowd": 1, "bbox": [40, 10, 30, 30]}
    (read,) = read_coco(coco(tmp_path, [IMAGE], [ROW, crowd]), tmp_path)
    assert (read.boxes.tolist(), read.classes) == ([BOX], ("bolt",))
    assert (read.ignored.boxes.tolist(), read.ignored.classes) == ([[40, 10, 70, 40]], ("bolt",))
    assert read.ignored.crowd.tolist() == [True]


def test_ignored_objects_reach_the_query_in_the_image_s_scale(tmp_path):
    for name in "abc":
        photo(tmp_path / f"{name}.jpg")
    images = [{**IMAGE, "id": i, "file_name": f"{name}.jpg"} for i, name in enumerate("abc")]
    rows = [{**ROW, "id": i, "image_id": i} for i in range(3)]
    rows += [{**ROW, "id": 9, "image_id": i, "iscrowd": 1, "bbox": [40, 10, 30, 30]} for i in range(3)]
    rows += [{**ROW, "id": 9, "image_id": i, "category_id": 2, "iscrowd": 1} for i in range(3)]
    coco(tmp_path, images, rows, ("bolt", "nut"))
    from datamodules.detection.base import DetectionImages

    options = {"n_way": 1, "k_shot": 1, "n_query": 2, "images": DetectionImages(short_side=30)}
    query = FolderDetection(str(tmp_path), **options).episode("test", 0).query
    for part, boxes in zip(query.ignored, query.boxes, strict=True):
        assert boxes.tolist() == [[4, 3, 15, 13]]
        assert part.boxes.tolist() == [[20, 5, 35, 20]]
        assert (part.labels.tolist(), part.crowd.tolist()) == ([0], [True])


def test_photos_whose_objects_cannot_be_used_are_not_predicted_as_if_they_had_none(tmp_path):
    for name in ("a", "b", "c"):
        photo(tmp_path / f"{name}.jpg")
    images = [IMAGE, {**IMAGE, "id": 2, "file_name": "b.jpg"}, {**IMAGE, "id": 3, "file_name": "c.jpg"}]
    coco(tmp_path, images, [ROW, {**ROW, "id": 2, "image_id": 2, "bbox": [1, 1, 0, 0]}])
    data = FolderDetection(str(tmp_path))
    with pytest.warns(UserWarning, match=r"skipped 1 boxes of annotations.json: b.jpg annotation 2 \(empty\)"):
        data.setup("predict")
    assert [path.name for path in data.unlabelled] == ["c.jpg"]
    assert data.episode("predict", 0).support.names == ("a.jpg",)


def test_counts_as_text_are_those_that_pycocotools_encodes():
    from pycocotools import mask as rle

    shape = np.random.default_rng(0).random((37, 53)) > 0.7
    shape[10:30, 5:40] = True
    coded = rle.encode(np.asfortranarray(shape.astype(np.uint8)))
    stated = {"size": [37, 53], "counts": coded["counts"].decode()}
    entry = read_mask_entry(stated, (53, 37))
    assert np.array_equal(draw(entry, (53, 37)), shape)
    assert entry.area == shape.sum()
    assert np.array_equal(read_counts(stated["counts"]), read_counts(entry.counts.tolist()))


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ([], "no polygon of three points"),
        ([[8, 6, 30, 26]], "no polygon of three points"),
        ([["a"] * 6], "no polygon of three points"),
        ([[0, 0, 1e12, 0, 1, 1]], "a polygon far outside"),
        ({"counts": [0, 100], "size": [10, 10]}, "run lengths of another size"),
        ({"counts": [5, 7], "size": [60, 80]}, "run lengths that do not fill the photo"),
        ({"counts": "~~~", "size": [60, 80]}, "run lengths that do not fill the photo"),
        (None, "no segmentation"),
    ],
)
def test_masks_that_cannot_be_drawn_have_a_reason(stated, reason):
    assert read_mask_entry(stated, (80, 60)).startswith(reason)


# YOLO ---------------------------------------------------------------------------------------------------------------

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


# VOC ----------------------------------------------------------------------------------------------------------------


def write_xml(path, size, more="", corners=(9, 7, 30, 26)):
    tags = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    item = f"<object><name>bolt</name>{more}<bndbox>{tags}</bndbox></object>"
    path.write_text(f"<annotation>{size}{item}</annotation>")
    return path


@pytest.mark.parametrize("size", ["", "0 0", "80.0 60.0", "80 60"])
def test_a_voc_annotation_needs_no_size(tmp_path, size):
    photo(tmp_path / "a.jpg")
    if size:
        size = "<size><width>{}</width><height>{}</height></size>".format(*size.split())
    read = read_xml(write_xml(tmp_path / "a.xml", size), tmp_path / "a.jpg", SkippedItems())
    assert read.boxes.tolist() == [BOX]
    assert read.size == (80, 60)


@pytest.mark.parametrize("kept", [False, True])
def test_difficult_objects_are_ignored_unless_they_are_asked_for(tmp_path, kept):
    photo(tmp_path / "a.jpg")
    path = write_xml(tmp_path / "a.xml", "", "<difficult>1</difficult>", ("9.0", "7.0", "30.0", "26.0"))
    read = read_xml(path, tmp_path / "a.jpg", SkippedItems(), difficult=kept)
    there, nothing = ([BOX], ("bolt",)), ([], ())
    assert (read.boxes.tolist(), read.classes) == (there if kept else nothing)
    assert (read.ignored.boxes.tolist(), read.ignored.classes) == (nothing if kept else there)
    assert not read.ignored.crowd.any()


# masks and names ----------------------------------------------------------------------------------------------------


def masks_of(root):
    return FolderMasks(str(root), images=MaskedImages(size=None))


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("view", ["upright", "stored"])
def test_masks_of_either_view_lie_on_the_object(tmp_path, tag, view):
    """A mask painted on the stored photo is told by its size; where sizes are equal it is taken for upright."""
    if view == "stored" and tag < 5:
        return
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}
    back |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    back |= {5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE}
    exif = Image.Exif()
    exif[0x0112] = tag
    photo(tmp_path / "images/q.png")
    mask(tmp_path / "masks/a.png")
    for path, turned in (("images/q.png", True), ("masks/a.png", view == "stored")):
        image = Image.open(tmp_path / path)
        image = image.transpose(back[tag]) if turned and tag > 1 else image
        image.save(tmp_path / path.replace("q.png", "a.png"), **({"exif": exif} if "images" in path else {}))
    support = masks_of(tmp_path).episode("predict", 0).support
    seen = support.images[0][:, support.class_masks[0] == 1]
    assert seen.shape[1] == 440
    assert (seen == seen.new_tensor([200, 30, 30])[:, None]).all()


def test_masks_and_photos_of_nested_folders_and_odd_names_belong_together(tmp_path):
    for name in ("a[1]", "x/a", "y/a", "cafe\u0301"):
        photo(tmp_path / f"images/{name}.JPG")
        mask(tmp_path / f"masks/{name.replace('e' + chr(0x301), chr(0xE9))}.PNG")
    photo(tmp_path / "images/q.jpg")
    (tmp_path / "masks/Thumbs.db").touch()
    data = masks_of(tmp_path)
    data.setup("predict")
    expected = {"images/a[1].JPG", "images/x/a.JPG", "images/y/a.JPG", "images/cafe\u0301.JPG"}
    assert set(data.catalog.photos) == expected
    assert [path.name for path in data.unlabelled] == ["q.jpg"]


def test_a_mask_of_two_photos_and_two_masks_of_a_photo_are_named(tmp_path):
    photo(tmp_path / "images/a.jpg")
    photo(tmp_path / "images/a.png")
    mask(tmp_path / "masks/a.png")
    with pytest.raises(ValueError, match=r"masks/a\.png may be the mask of .*a\.jpg or of .*a\.png"):
        masks_of(tmp_path).setup("predict")
    (tmp_path / "images/a.png").unlink()
    mask(tmp_path / "masks/a.bmp")
    with pytest.raises(ValueError, match=r"a\.jpg has several masks: .*a\.bmp, .*a\.png"):
        masks_of(tmp_path).setup("predict")
    (tmp_path / "masks/a.bmp").unlink()
    mask(tmp_path / "masks/a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg has several masks|a\.jpg is a JPEG, which changes values"):
        masks_of(tmp_path).setup("predict")


def test_links_to_labelled_photos_are_not_predicted_and_that_is_said(tmp_path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "query/q.jpg")
    (tmp_path / "query/again.jpg").symlink_to(tmp_path / "a.jpg")
    coco(tmp_path, [IMAGE], [ROW])
    data = FolderDetection(str(tmp_path))
    with pytest.warns(
        UserWarning, match=r"skipped 1 images to predict: query/again.jpg \(a link to a labelled photo\)"
    ):
        data.setup("predict")
    assert [path.name for path in data.unlabelled] == ["q.jpg"]


def test_photos_of_one_name_in_two_folders_are_all_there(tmp_path):
    (read,) = read_coco(coco(tmp_path, [IMAGE], []), tmp_path)
    photos = [read._replace(path=tmp_path / part / "a.jpg") for part in ("train", "val", "x/train")]
    other = read._replace(name="b.jpg", path=tmp_path / "b.jpg")
    names = [photo.name for photo in named_apart([*photos, other])]
    assert names == [f"{tmp_path}/train/a.jpg", "val/a.jpg", f"{tmp_path}/x/train/a.jpg", "b.jpg"]
    with pytest.raises(ValueError, match=r"b\.jpg is listed twice"):
        named_apart([other, other])


def test_a_missing_root_is_one_clear_message(monkeypatch):
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    text = r"no root is given for coco128: set FEWSHOT_DATA or --data\.root .* exist: \$FEWSHOT_DATA/coco128/images, "
    with pytest.raises(FileNotFoundError, match=text):
        find_root(None, DOWNLOAD)
