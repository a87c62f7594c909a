"""COCO's annotations as tools write them: what is unambiguous is taken, what is not is counted or named."""

import numpy as np
import pytest
from annotated_photos import BOX, IMAGE, ROW, coco, photo

from datamodules.detection.folder import FolderDetection
from datamodules.images.catalog import named_apart
from datamodules.images.coco import read_coco
from datamodules.images.coco_masks import draw, read_counts, read_mask_entry


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
