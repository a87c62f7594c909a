"""One's own folder of photos and masks, and masks that are bad."""

import numpy as np
import pytest
from masked_sets import maker
from PIL import Image

from datamodules.images import own_folder
from datamodules.segmentation.folder_masks import FolderMasks
from datamodules.segmentation.settings import MaskedImages
from lightning_fewshot.images import read_mask


@pytest.fixture
def own(tmp_path):
    return maker.make_folder_masks(tmp_path)


def folder(root, **options):
    return FolderMasks(str(root), images=MaskedImages(size=None), **options)


def save_as(path, how):
    values = np.asarray(Image.open(path))
    if how == "palette":
        image = Image.fromarray(values).convert("P")
        image.putpalette([7, 0, 3] * 256)
        image.putdata(values.flatten().tolist())
    elif how == "rgb":
        image = Image.fromarray(np.repeat(values[..., None], 3, axis=2))
    elif how == "rgba":
        image = Image.fromarray(np.dstack([values, values, values, np.full_like(values, 255)]))
    else:
        image = Image.fromarray(values.astype(np.uint16))
    image.save(path)


@pytest.mark.parametrize("how", ["palette", "rgb", "rgba", "16 bits"])
def test_masks_of_other_kinds_read_alike(own, how):
    path = own / "masks/mine0.png"
    before = folder(own).read_mask(folder(own).catalog.photos["images/mine0.png"])
    save_as(path, how)
    after = folder(own).read_mask(folder(own).catalog.photos["images/mine0.png"])
    assert Image.open(path).mode == {"palette": "P", "rgb": "RGB", "rgba": "RGBA", "16 bits": "I;16"}[how]
    np.testing.assert_array_equal(before, after)


def test_a_one_bit_mask_needs_no_list_of_classes(own):
    for path in (own / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) > 0).save(path)
    (own / "classes.txt").unlink()
    data = folder(own)
    assert data.catalog.split_classes["test"] == ("object",)
    assert (data.read_mask(data.catalog.photos["images/mine0.png"]) == 1).sum() > 300


def test_values_outside_the_set_are_named(own):
    path = own / "masks/mine3.png"
    values = np.array(Image.open(path))
    values[5, 5] = 77
    Image.fromarray(values).save(path)
    with pytest.raises(ValueError, match=r"mine3.png has the value 77 but the allowed values are 0, 10, 20, 30, 255"):
        folder(own).setup("predict")


def test_colored_truncated_and_absent_masks_are_named(own):
    path = own / "masks/mine3.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"mine3.png is a colored picture \(RGB\); save class numbers"):
        folder(own).setup("predict")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"mine3.png is truncated"):
        folder(own).setup("predict")
    path.rename(own / "masks/nobody.png")
    with pytest.raises((FileNotFoundError, ValueError), match=r"nobody"):
        folder(own).setup("predict")
    with pytest.raises(FileNotFoundError):
        read_mask(own / "masks/none.png")


def test_a_mask_of_another_size_is_named(own):
    Image.fromarray(np.full((20, 30), 10, np.uint8)).save(own / "masks/mine3.png")
    data = folder(own)
    with pytest.raises(ValueError, match=r"images/mine3.png: the mask has 30 x 20 pixels but the photo 60 x 40"):
        data.episode("predict", 0)


def test_empty_masks_give_no_shots(own):
    for path in (own / "masks").iterdir():
        Image.fromarray(np.zeros((40, 60), np.uint8)).save(path)
    with pytest.raises(ValueError, match="shows no class: there is nothing to adapt to"):
        folder(own).setup("predict")


def test_a_bad_line_in_classes_is_named(own):
    (own / "classes.txt").write_text("10 cup\npen 20\n")
    with pytest.raises(ValueError, match=r"classes.txt has the line 'pen 20', expected a value from 1 to 254"):
        folder(own).setup("predict")


def test_ones_own_folder_is_predicted_from_all_its_masks(own, monkeypatch):
    monkeypatch.setattr(own_folder, "CHUNK", 3)
    data = folder(own)
    data.setup("predict")
    assert data.counts["predict"] == 2
    first, second = data.episode("predict", 0), data.episode("predict", 1)
    assert first.classes == ("cup", "key", "pen")
    assert len(first.support.names) == 24  # each photo shows two classes
    for mask, label in zip(first.support.class_masks, first.support.labels.tolist(), strict=True):
        assert set(mask.flatten().tolist()) == {0, label + 1}
    asked = (*first.query.names, *second.query.names)
    assert asked == ("images/unmasked.png", "query/q0.png", "query/q1.png", "query/q2.png")
    assert first.query.class_masks is None
    assert first.query.labels is None
    with pytest.raises(ValueError, match="set novel_classes"):
        data.setup("fit")
