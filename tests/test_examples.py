"""``lightning_fewshot.examples``: images with what is known of them, from Python."""

import numpy as np
import pytest
import torch

import lightning_fewshot as lf


@pytest.fixture
def pictures():
    """Two images of one size, and one of another."""
    return [np.full((20, 30, 3), 10 * i, np.uint8) for i in range(2)], np.zeros((8, 9, 3), np.uint8)


def test_images_of_one_size_are_stacked_and_others_listed(pictures):
    same, other = pictures
    assert lf.examples(same).examples.images.shape == (2, 3, 20, 30)
    assert [tuple(i.shape) for i in lf.examples([*same, other]).examples.images] == [(3, 20, 30)] * 2 + [(3, 8, 9)]
    assert lf.examples(other).examples.images.shape == (1, 3, 8, 9), "one image needs no list"


def test_labels_index_the_classes(pictures):
    same, _ = pictures
    found = lf.examples(same, labels=["nut", "bolt"])
    assert found.classes == ("bolt", "nut")
    assert found.examples.labels.tolist() == [1, 0]
    assert lf.examples(same, labels=["nut", "bolt"], classes=["nut", "bolt"]).examples.labels.tolist() == [0, 1]


def test_boxes_are_one_or_several_an_image(pictures):
    same, _ = pictures
    box = (1, 2, 10, 12)
    one = lf.examples(same[:1], boxes=box, labels="nut").examples
    assert one.boxes[0].tolist() == [list(map(float, box))]
    several = lf.examples(same, boxes=[box, [box, (3, 3, 9, 9)]], labels=["nut", ["nut", "bolt"]])
    assert [len(b) for b in several.examples.boxes] == [1, 2]
    assert [label.tolist() for label in several.examples.labels] == [[1], [1, 0]]


def test_masks_hold_the_value_of_their_class_and_void(pictures):
    same, _ = pictures
    mask = np.zeros((20, 30), np.uint8)
    mask[:5] = 1
    void = mask.copy()
    void[10] = 255
    found = lf.examples(same, masks=[mask * 255, void], labels=["nut", "bolt"]).examples
    assert found.class_masks[0].unique().tolist() == [0, 2], "255 alone is the object"
    assert found.class_masks[1].unique().tolist() == [0, 1, 255], "beside other values it is not known"
    assert torch.equal(found.class_masks[0] == 2, torch.from_numpy(mask == 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boxes": [(0, 0, 5, 5)] * 2}, "boxes and masks need labels"),
        ({"labels": ["a"]}, "2 images but 1 labels"),
        ({"labels": ["a", "b"], "boxes": [(0, 0, 5, 5)]}, "2 images but 1 boxes"),
        ({"labels": ["a", "b"], "boxes": [(0, 0, 5, 5), (6, 0, 5, 5)]}, "image 1 has a box that is empty"),
        ({"labels": ["a", ["b", "b"]], "boxes": [(0, 0, 5, 5)] * 2}, "image 1 has 1 boxes but 2 labels"),
        ({"labels": ["a", "b"], "classes": ["a", "c"]}, "label 'b' is none of the classes a, c"),
        ({"labels": ["a", "a"], "classes": ["a", "b"]}, "class 'b' has no example"),
        ({"labels": ["a", "b"], "masks": [np.zeros((3, 3))] * 2}, r"a mask has shape \(3, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(pictures, options, message):
    with pytest.raises(ValueError, match=message):
        lf.examples(pictures[0], **options)


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="there is no image"):
        lf.examples([])
