"""Image files as frames: bytes behind the end, CMYK, float, 16 bits, on their side, bombs and pipes."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lightning_fewshot.tracking.reading import read_frame


@pytest.fixture
def picture():
    """A smooth picture, so that compression changes little."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack((x * 4, y * 6, np.full_like(x, 80)), axis=2).astype(np.uint8)


def pixels(path):
    return read_frame(path).permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("count", [1, 5000, 100_000])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_behind_the_end_change_nothing(picture, tmp_path, suffix, count):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture).save(path, quality=95)
    before = pixels(path)
    path.write_bytes(path.read_bytes() + b"\0" * count)
    np.testing.assert_array_equal(pixels(path), before)


def test_the_end_of_the_small_picture_inside_is_not_the_end(picture, tmp_path):
    thumbnail = b"Exif\0\0" + b"\xff\xd8 a small picture \xff\xd9"
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, quality=95)
    data = path.read_bytes()
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    path.write_bytes(data[:2] + segment + data[2:])
    assert pixels(path).shape == (40, 60, 3)
    path.write_bytes(path.read_bytes()[: -len(data) // 3])
    with pytest.raises(ValueError, match="is truncated"):
        read_frame(path)


def test_cmyk_grey_and_deep_pictures_have_their_colors(picture, tmp_path):
    for name, mode in (("cmyk.jpg", "CMYK"), ("cmyk.tif", "CMYK"), ("rgb.tif", "RGB"), ("rgb.webp", "RGB")):
        Image.fromarray(picture).convert(mode).save(tmp_path / name, quality=95)
        assert np.abs(pixels(tmp_path / name) - picture).mean() < 4, name
    deep = (picture[..., 0].astype(np.uint16) * 257).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    assert np.abs(pixels(tmp_path / "deep.tif") - picture[..., :1]).max() <= 1
    Image.fromarray(picture[..., 0].astype(np.float32)).save(tmp_path / "float.tif")
    assert np.abs(pixels(tmp_path / "float.tif") - picture[..., :1]).max() <= 1


def test_a_frame_is_upright(picture, tmp_path):
    for name in ("a.jpg", "a.webp"):
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(picture).save(tmp_path / name, exif=exif, quality=95)
        assert np.abs(pixels(tmp_path / name) - np.rot90(picture, -1).astype(int)).mean() < 4, name


def test_of_an_animated_file_the_first_picture_is_the_frame(picture, tmp_path):
    first, second = Image.fromarray(picture), Image.fromarray(255 - picture)
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(pixels(tmp_path / "a.webp"), picture)


def test_a_bomb_and_a_pipe_are_refused_at_once(tmp_path):
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"IEND")
    with pytest.raises(ValueError, match=r"bomb\.png"):
        read_frame(tmp_path / "bomb.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileNotFoundError, match=r"pipe\.png is missing"):
        read_frame(tmp_path / "pipe.png")
