"""Images as people have them: files, PIL images, arrays and tensors, all as ``(3, H, W)`` uint8 RGB, upright.

Orientation is one rule everywhere: an image is shown as its EXIF entry says.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_PIXELS = 200_000_000  # of one image; a file that declares more is refused before it is decoded
LARGEST_12_BITS = 4095
HEAD_BYTES = 2**20  # of a file, to tell what it is
EXIF_ORIENTATION = 0x0112
FIRST_ON_ITS_SIDE = 5  # EXIF orientations from 5 on exchange width and height


def as_image(image: Any) -> Tensor:
    """Return an image as ``(3, H, W)`` uint8 RGB.

    Args:
        image: A path, a PIL image, a numpy array ``(H, W)`` or ``(H, W, 3)`` uint8, or a tensor ``(H, W)``,
            ``(1, H, W)`` or ``(3, H, W)`` uint8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, or the array has another shape or type.
    """
    from PIL import Image

    if isinstance(image, (str, Path)):
        array = read_image(image)
    elif isinstance(image, Image.Image):
        array = pil_to_rgb(image)
    elif isinstance(image, (np.ndarray, Tensor)):
        return _from_values(image)
    else:
        raise ValueError(f"an image must be a path, a PIL image, an array or a tensor, not {type(image).__name__}")
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as ``(H, W, 3)`` uint8 RGB, upright.

    Grey and palette images become RGB, transparency is put on white. 16 bits are scaled to 8; where no value is above
    4095 they are taken for 12 bits, with a warning. Of an animation the first picture is read.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, no image, larger than ``MAX_PIXELS``, or has float values beyond [0, 255].
    """
    image = _decoded(path, "image")
    if image.mode.startswith("I") and 255 < np.asarray(image).max() <= LARGEST_12_BITS:
        warnings.warn(f"image {path} has 16 bits but no value above {LARGEST_12_BITS}: read as 12 bits", stacklevel=2)
        return _grey(np.asarray(image) / (LARGEST_12_BITS / 255))
    if image.mode == "F":
        return _grey(_float_values(np.asarray(image), path))
    return pil_to_rgb(image)


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (width, height) of an image file, upright, from its header: it is not decoded.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, or larger than ``MAX_PIXELS``.
    """
    with _opened(path, "image") as image:
        turned = image.format != "TIFF" and _orientation(image) >= FIRST_ON_ITS_SIDE  # a TIFF's size is upright
        return image.size[::-1] if turned else image.size


def orientation(path: str | Path) -> int:
    """Return the EXIF orientation of an image file: 1 (upright) to 8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image.
    """
    with _opened(path, "image") as image:
        return _orientation(image)


def turn_upright(values: np.ndarray, tag: int) -> np.ndarray:
    """Turn ``(H, W)`` or ``(H, W, C)`` from the stored view into the upright one.

    >>> turn_upright(np.array([[1, 2], [3, 4]]), 6).tolist()  # stored on its side: turned by 90 degrees to the right
    [[3, 1], [4, 2]]
    """
    turns = {
        2: lambda v: v[:, ::-1],
        3: lambda v: v[::-1, ::-1],
        4: lambda v: v[::-1],
        5: lambda v: v.swapaxes(0, 1),
        6: lambda v: np.rot90(v, -1),
        7: lambda v: v[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90,
    }
    return np.ascontiguousarray(turns[tag](values)) if tag in turns else values


def _orientation(image: Any) -> int:
    try:
        tag = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not cost the picture
        return 1
    return tag if tag in range(1, 9) else 1


def _opened(path: str | Path, what: str) -> Any:
    """Open an image file without decoding it, and refuse what is none or too large."""
    from PIL import Image

    if not Path(path).is_file():
        if Path(path).exists():
            raise ValueError(f"{what} {path} is no regular file")
        raise FileNotFoundError(f"there is no {what} {path}")
    try:
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{what} {path} has too many pixels: {MAX_PIXELS} are the most ({error})") from error
    except Exception as error:  # the decoders raise nearly everything
        raise ValueError(f"{what} {path} {why_unreadable(path, error)}") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{what} {path} has {image.width}x{image.height} pixels but {MAX_PIXELS} are the most")
    return image


def why_unreadable(path: str | Path, error: Exception) -> str:
    """Return what is wrong with a file that cannot be opened: kinds of images that no library here reads are named."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    bits = _jpeg_bits(head)
    if bits not in (None, 8):
        return f"is a JPEG of {bits}-bit values, which cannot be read: save it with 8 bits, or as a PNG of 16"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return f"is truncated, or a TIFF of values that cannot be read, as 64-bit or colored floats: {error}"
    return f"is truncated or not an image: {error}"


def _jpeg_bits(head: bytes) -> int | None:
    """Return the bits of a value that a JPEG's frame header declares; None: there is no such header."""
    at = 2 if head.startswith(b"\xff\xd8") else len(head)
    while at + 4 < len(head) and head[at] == 0xFF:
        if 0xC0 <= head[at + 1] <= 0xCF and head[at + 1] not in (0xC4, 0xC8, 0xCC):
            return head[at + 4]
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(image) if _orientation(image) > 1 else image


def _decoded(path: str | Path, what: str) -> Any:
    """Read an image file as a PIL image, upright and in memory."""
    with _opened(path, what) as image:
        try:
            image.load()
            return _upright(image.copy())
        except Exception as error:
            raise ValueError(f"{what} {path} is truncated or not an image: {error}") from error


def _float_values(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Return float values in [0, 255]: those within [0, 1] are stretched."""
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise ValueError(f"image {path} has float values beyond [0, 255]: save it with 8 bits")
    return values * 255 if values.max() <= 1 else values


def pil_to_rgb(image: Any) -> np.ndarray:
    """Return a PIL image as ``(H, W, 3)`` uint8 RGB, upright."""
    from PIL import Image

    image = _upright(image)
    if image.mode.startswith("I"):  # 16 bits of grey, as I;16 or widened to 32
        return _grey(np.asarray(image).astype(np.float64) / 257)
    if image.mode == "F":
        return _grey(np.asarray(image))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(np.rint(values), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _from_values(image: np.ndarray | Tensor) -> Tensor:
    values = torch.as_tensor(image)
    if values.dtype != torch.uint8:
        raise ValueError(f"an image must be uint8 in [0, 255], got {values.dtype}")
    if values.ndim == 2:
        return values.expand(3, -1, -1).contiguous()
    if values.ndim == 3 and isinstance(image, np.ndarray) and values.shape[2] == 3:
        return values.permute(2, 0, 1).contiguous()
    if values.ndim == 3 and isinstance(image, Tensor) and values.shape[0] in (1, 3):
        return values.expand(3, -1, -1).contiguous()
    kind = "an array (H, W, 3)" if isinstance(image, np.ndarray) else "a tensor (3, H, W)"
    raise ValueError(f"an image must be {kind} or grey (H, W), got shape {tuple(values.shape)}")


def read_mask(path: str | Path) -> np.ndarray:
    """Read the values of a mask file as ``(H, W)`` int64, upright.

    Palette masks give their indices, 1 bit gives 0 and 1, 16 bits their numbers. Color files are read where all
    channels agree. What is transparent is 0; where all that is visible is black, it is 255: the shape is the mask.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, no image, colored, or has values that are no whole numbers.
    """
    image = _decoded(path, "mask")
    values = np.asarray(image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "HSV", "LAB") else image)
    visible = np.ones(values.shape[:2], bool)
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa"):
        values, visible = values[..., :-1], values[..., -1] > 127
    if values.ndim == 3:
        if ((values != values[..., :1]).any(-1) & visible).any():
            raise ValueError(
                f"mask {path} is a colored picture ({image.mode}); save class numbers as an 8-bit grey or palette PNG, "
                "without channels that differ"
            )
        values = values[..., 0]
    if image.mode == "F" and (values != np.rint(values)).any():
        raise ValueError(f"mask {path} has values that are no whole numbers")
    values = values.astype(np.int64)
    if not visible.all() and not values[visible].any():
        return np.where(visible, 255, 0)
    return np.where(visible, values, 0)
