"""Images as people have them: files, PIL images, arrays and tensors, all as ``(3, H, W)`` uint8 RGB, upright.

Orientation is one rule everywhere: an image is shown as its EXIF entry says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_PIXELS = 200_000_000  # of one image; a file that declares more is refused before it is decoded


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

    Grey and palette images become RGB, 16 bits are scaled to 8, transparency is put on white.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, no image, or larger than ``MAX_PIXELS``.
    """
    from PIL import Image, UnidentifiedImageError

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no image {path}")
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"image {path} has {image.width}x{image.height} pixels but {MAX_PIXELS} are the most")
            image.load()
            return pil_to_rgb(image)
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"image {path} is truncated or not an image: {error}") from error


def pil_to_rgb(image: Any) -> np.ndarray:
    """Return a PIL image as ``(H, W, 3)`` uint8 RGB, upright."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
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
    """Read a mask file as ``(H, W)``, upright: values of a palette or grey image; a color image must be grey.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, or its channels differ.
    """
    from PIL import Image, ImageOps

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no mask {path}")
    try:
        with Image.open(path) as image:
            values = np.asarray(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"mask {path} is truncated or not an image: {error}") from error
    if values.ndim == 3 and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise ValueError(f"mask {path} has {values.shape[2]} channels that differ, but a mask has one value a pixel")
    return values
