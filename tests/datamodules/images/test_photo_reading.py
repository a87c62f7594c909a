import numpy as np
import pytest
from PIL import Image

from datamodules.detection.mosaics import compose
from datamodules.images.augmentation import jitter_colors
from datamodules.images.boxed_photo import Photo, read_boxed
from datamodules.images.reading import SkippedItems, flip, resize
from lightning_fewshot.images import image_size, read_image, turn_upright

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
        photo = read_image(tmp_path / name)
        assert photo.dtype == np.uint8
        np.testing.assert_array_equal(photo, expected, err_msg=name)


def test_an_image_of_one_pixel_can_be_resized_flipped_and_augmented(tmp_path):
    Image.fromarray(RAMP[:1, :1]).save(tmp_path / "one.png")
    image, boxes = resize(read_image(tmp_path / "one.png"), np.array([[0, 0, 1, 1.0]]), 32, 64)
    image, boxes = flip(image, boxes)
    assert jitter_colors(image, np.random.default_rng(0)).shape == (32, 32, 3)
    assert boxes.tolist() == [[0, 0, 32, 32]]


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_truncated_or_foreign_file_is_named(tmp_path, kind):
    path = tmp_path / f"photo.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ValueError, match=f"photo.{kind} is truncated"):
        read_image(path)
    path.write_bytes(b"")
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match=f"photo.{kind} is truncated or not an image"):
            read(path)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.jpg")


BOX = np.array([[2.0, 1.0, 5.0, 3.0]])  # in the upright view, 10 x 6


@pytest.mark.parametrize("tag", range(1, 9))
def test_boxes_of_either_view_end_in_the_upright_one(tmp_path, tag):
    """Boxes in the stored view are told by the annotated size; where sizes are equal they are in the upright view."""
    upright = np.zeros((6, 10), np.uint8)
    upright[1:3, 2:5] = 200
    back = {6: 8, 8: 6}.get(tag, tag)
    exif = Image.Exif()
    exif[0x0112] = tag
    stored = turn_upright(upright, back)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    cases = [(10, 6), (20, 12), None] + ([(6, 10), (12, 20)] if tag >= 5 else [])
    for size in cases:
        ys, xs = np.nonzero(stored if size is not None and size[0] < size[1] else upright)
        scale = 1 if size is None else max(size) / 10
        boxes = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]) * scale
        image, found = read_boxed(Photo("a", tmp_path / "a.png", boxes, ("x",), size), boxes)
        assert image.shape == (6, 10, 3)
        np.testing.assert_allclose(found, BOX, err_msg=str(size))


def test_a_photo_that_was_turned_after_it_was_annotated_is_named(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png is annotated as 6 x 10 pixels but has 10 x 6 and no EXIF rotation"):
        read_boxed(Photo("a", tmp_path / "a.png", BOX, ("x",), (6, 10)), BOX)


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
