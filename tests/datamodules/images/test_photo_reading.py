import numpy as np
import pytest
from PIL import Image

from datamodules.detection.mosaics import compose
from datamodules.images.augmentation import jitter_colors
from datamodules.images.reading import SkippedItems, flip, photo_size, read_photo, resize

RAMP = np.arange(0, 240, 4, dtype=np.uint8).reshape(6, 10)


def test_any_kind_of_image_becomes_rgb(tmp_path):
    rgb = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=2)
    grey = np.repeat(RAMP[:, :, None], 3, axis=2)
    alpha = np.where(RAMP > 100, 255, 0).astype(np.uint8)
    cases = {
        "rgb.png": (Image.fromarray(rgb), rgb),
        "grey.png": (Image.fromarray(RAMP), grey),
        "sixteen.png": (Image.fromarray(RAMP.astype(np.uint16) * 257), grey),
        "rgba.png": (Image.fromarray(np.dstack([rgb, alpha])), np.where(alpha[:, :, None] > 0, rgb, 255)),
        "palette.gif": (Image.fromarray(RAMP), grey),
        "one.png": (Image.fromarray(rgb[:1, :1]), rgb[:1, :1]),
    }
    for name, (image, expected) in cases.items():
        (image.convert("P") if name.endswith("gif") else image).save(tmp_path / name)
        photo = read_photo(tmp_path / name)
        assert photo.dtype == np.uint8
        np.testing.assert_array_equal(photo, expected, err_msg=name)


def test_an_image_of_one_pixel_can_be_resized_flipped_and_augmented(tmp_path):
    Image.fromarray(RAMP[:1, :1]).save(tmp_path / "one.png")
    image, boxes = resize(read_photo(tmp_path / "one.png"), np.array([[0, 0, 1, 1.0]]), 32, 64)
    image, boxes = flip(image, boxes)
    assert jitter_colors(image, np.random.default_rng(0)).shape == (32, 32, 3)
    assert boxes.tolist() == [[0, 0, 32, 32]]


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_truncated_or_foreign_file_is_named(tmp_path, kind):
    path = tmp_path / f"photo.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ValueError, match=f"photo.{kind} is truncated"):
        read_photo(path)
    path.write_bytes(b"")
    for read in (read_photo, photo_size):
        with pytest.raises(ValueError, match=f"photo.{kind} is truncated or not an image"):
            read(path)
    with pytest.raises(FileNotFoundError):
        read_photo(tmp_path / "none.jpg")


def test_a_turned_photo_follows_its_annotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(RAMP).save(tmp_path / "turned.png", exif=exif)
    assert read_photo(tmp_path / "turned.png").shape == (6, 10, 3)
    assert read_photo(tmp_path / "turned.png", (10, 6)).shape == (6, 10, 3)
    turned = read_photo(tmp_path / "turned.png", (6, 10))
    np.testing.assert_array_equal(turned[:, :, 0], np.rot90(RAMP, -1))


def test_skipped_items_warn_once_with_count_and_names():
    skipped = SkippedItems()
    skipped.warn("boxes")
    for i in range(7):
        skipped.add(f"p{i}", "empty")
    with pytest.warns(UserWarning, match=r"skipped 7 boxes: p0 \(empty\).*p4 \(empty\) and 2 more") as caught:
        skipped.warn("boxes")
    assert len(caught) == 1


def test_colors_are_a_function_of_the_generator_and_do_vary():
    photo = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    kept = photo.copy()
    runs = [jitter_colors(photo, np.random.default_rng(s)) for s in (1, 1, 2, 3, 4, 5)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert any((runs[0] != other).any() for other in runs[2:])
    np.testing.assert_array_equal(photo, kept)


def test_mosaic_photos_do_not_overlap_and_boxes_keep_most_of_the_object():
    photo = np.full((64, 64, 3), 10, np.uint8)
    box = np.array([16.0, 20.0, 48.0, 44.0])
    photo[20:44, 16:48] = 250
    for seed in range(60):
        rng = np.random.default_rng(seed)
        count = 1 + seed % 4
        canvas, boxes = compose([photo] * count, np.stack([box] * count), photo * 0, 160, rng, mirror=True)
        assert canvas.shape == (160, 160, 3)
        assert boxes.min() >= 0
        assert boxes.max() <= 160
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert (areas > 80).all()
        assert abs((canvas[:, :, 0] > 130).sum() - areas.sum()) < 0.12 * areas.sum() + 20 * count
