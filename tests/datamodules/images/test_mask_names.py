"""Masks lie on their objects, and belong to the photos of their names."""

import pytest
from annotated_photos import mask, photo
from PIL import Image

from datamodules.segmentation.folder_masks import FolderMasks
from datamodules.segmentation.settings import MaskedImages


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
