"""Images as people have them become ``(3, H, W)`` uint8 RGB, upright."""

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_fewshot import images
from lightning_fewshot.images import as_image, read_image, read_mask


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
