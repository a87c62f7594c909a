"""Images as people have them become ``(3, H, W)`` uint8 RGB, upright."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from lightning_fewshot import images
from lightning_fewshot.images import as_image, read_image, read_mask
from lightning_fewshot.tracking.reading import read_frame


@pytest.fixture
def picture():
    """A picture of 20 x 30 with a red corner."""
    values = np.full((20, 30, 3), 90, np.uint8)
    values[:5, :8] = (200, 30, 30)
    return values


def test_every_kind_of_image_is_the_same_tensor(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    kinds = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture), picture]
    kinds.append(torch.from_numpy(picture).permute(2, 0, 1))
    for kind in kinds:
        found = as_image(kind)
        assert found.dtype == torch.uint8
        assert torch.equal(found, torch.from_numpy(picture).permute(2, 0, 1))


def test_grey_images_become_rgb(picture):
    grey = picture[..., 0]
    for kind in (grey, torch.from_numpy(grey), torch.from_numpy(grey)[None], Image.fromarray(grey)):
        assert torch.equal(as_image(kind), torch.from_numpy(grey).expand(3, -1, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_and_masks_stand_upright(picture, tmp_path, orientation):
    """What a viewer shows, read back by a reader that knows nothing of EXIF."""
    turns = {2: "fliplr", 3: "180", 4: "flipud", 5: "transpose", 6: "270", 7: "transverse", 8: "90"}
    exif = Image.Exif()
    exif[0x0112] = orientation
    name = turns.get(orientation)
    stored = {  # the inverse of what the viewer does
        None: lambda v: v,
        "fliplr": lambda v: v[:, ::-1],
        "180": lambda v: v[::-1, ::-1],
        "flipud": lambda v: v[::-1],
        "transpose": lambda v: v.swapaxes(0, 1),
        "270": lambda v: np.rot90(v, 1),
        "transverse": lambda v: v[::-1, ::-1].swapaxes(0, 1),
        "90": lambda v: np.rot90(v, -1),
    }[name]
    Image.fromarray(np.ascontiguousarray(stored(picture))).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(np.ascontiguousarray(stored(picture[..., 0]))).save(tmp_path / "m.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), picture)
    assert np.array_equal(read_mask(tmp_path / "m.png"), picture[..., 0])


def test_what_is_no_image_is_named(tmp_path, monkeypatch, picture):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.jpg is truncated or not an image"):
        as_image(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"b\.jpg"):
        as_image(tmp_path / "b.jpg")
    with pytest.raises(ValueError, match="must be uint8"):
        as_image(picture.astype(np.float32))
    with pytest.raises(ValueError, match=r"got shape \(3, 20, 30\)"):
        as_image(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    Image.fromarray(picture).save(tmp_path / "c.png")
    with pytest.raises(ValueError, match="30x20 pixels but 100 are the most"):
        as_image(tmp_path / "c.png")
    with pytest.raises(ValueError, match=r"mask .* has 30x20 pixels but 100 are the most"):
        read_mask(tmp_path / "c.png")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="channels that differ"):
        read_mask(tmp_path / "c.png")


SHAPE = np.zeros((20, 30), np.uint8)
SHAPE[4:12, 6:20] = 255


@pytest.mark.parametrize("how", ["white", "black", "grey and alpha", "class 10 on nothing", "opaque"])
def test_what_is_transparent_in_a_mask_is_background(tmp_path, how):
    full, empty = np.full_like(SHAPE, 255), np.zeros_like(SHAPE)
    ten = np.full_like(SHAPE, 10)
    layers, expected = {
        "white": ([full, full, full, SHAPE], SHAPE),
        "black": ([empty, empty, empty, SHAPE], SHAPE),
        "grey and alpha": ([full, SHAPE], SHAPE),
        "class 10 on nothing": ([ten, ten, ten, SHAPE], SHAPE // 255 * 10),
        "opaque": ([SHAPE, SHAPE, SHAPE, full], SHAPE),
    }[how]
    Image.fromarray(np.dstack(layers)).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), expected)


def test_photos_of_unusual_kinds_are_read(picture, tmp_path):
    image = Image.fromarray(picture)
    image.save(tmp_path / "a.jpg", quality=100, subsampling=0)
    whole = read_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"a note of the camera" * 50)
    assert np.array_equal(read_image(tmp_path / "a.jpg"), whole), "bytes after the end"
    image.convert("CMYK").save(tmp_path / "c.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "c.jpg").astype(int) - picture).max() < 12
    image.save(tmp_path / "m.png", save_all=True, append_images=[Image.new("RGB", image.size)])
    assert np.array_equal(read_image(tmp_path / "m.png"), picture), "the first picture of an animation"


def test_float_and_12_bit_values_are_scaled_or_refused(tmp_path):
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    expected = np.rint(values * 255)
    for name, scale in (("unit", 1), ("bytes", 255)):
        Image.fromarray(values * scale).save(tmp_path / f"{name}.tif")
        assert np.abs(read_image(tmp_path / f"{name}.tif")[..., 0] - expected).max() <= 1
    Image.fromarray(values * 4000).save(tmp_path / "far.tif")
    with pytest.raises(ValueError, match=r"far\.tif has float values beyond \[0, 255\]"):
        read_image(tmp_path / "far.tif")
    Image.fromarray(np.rint(values * 4095).astype(np.uint16)).save(tmp_path / "twelve.png")
    with pytest.warns(UserWarning, match=r"twelve\.png has 16 bits but no value above 4095"):
        assert np.abs(read_image(tmp_path / "twelve.png")[..., 0] - expected).max() <= 1


def test_images_of_kinds_that_no_library_reads_are_named_with_their_kind(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=90)
    raw = bytearray((tmp_path / "a.jpg").read_bytes())
    header = raw.index(b"\xff\xc0")
    raw[header + 1], raw[header + 4] = 0xC1, 12  # an extended frame of 12 bits
    (tmp_path / "twelve.jpg").write_bytes(raw)
    cv2.imwrite(str(tmp_path / "double.tif"), np.linspace(0, 1, 600).reshape(20, 30))
    for read in (read_image, images.image_size, read_mask, read_frame):
        with pytest.raises(ValueError, match=r"twelve\.jpg is a JPEG of 12-bit values, which cannot be read: save it"):
            read(tmp_path / "twelve.jpg")
        with pytest.raises(ValueError, match=r"double\.tif is truncated, or a TIFF of values that cannot be read"):
            read(tmp_path / "double.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_sizes_without_decoding_are_upright(picture, tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture).save(path, exif=exif)
    assert images.image_size(path) == read_image(path).shape[1::-1] == ((20, 30) if orientation > 4 else (30, 20))
    assert images.orientation(path) == orientation


def test_a_damaged_exif_block_costs_no_photo(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png", exif=b"Exif\0\0no such block")
    assert np.array_equal(read_image(tmp_path / "a.png"), picture)
