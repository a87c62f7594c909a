"""One frame from an image file or an array: ``(3, H, W)`` uint8 RGB, upright."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from lightning_fewshot.images import MAX_PIXELS, read_image, why_unreadable

PLAIN = (("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("BMP", "RGB"))  # OpenCV's: faster


def read_frame(path: str | Path) -> Tensor:
    """Read an image file, whatever its depth and colors: grey becomes RGB, 16 bits and CMYK 8 bits of RGB.

    What stands behind the end of the image is ignored; of an animated file the first picture is the frame.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is truncated, no image, or larger than ``lightning_fewshot.images.MAX_PIXELS``.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"frame {path} is missing")
    if _kind(path) not in PLAIN:
        return to_frame(read_image(path))
    data = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if _is_whole(data.tobytes()) else None
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f"frame {path} is truncated or not an image")
    return to_frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def to_frame(image: np.ndarray) -> Tensor:
    """Turn ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)`` of uint8 or uint16 into ``(3, H, W)`` uint8.

    Raises:
        ValueError: Another shape or type.

    >>> to_frame(np.full((2, 4), 65535, np.uint16)).shape, int(to_frame(np.full((2, 4), 65535, np.uint16)).max())
    (torch.Size([3, 2, 4]), 255)
    """
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a frame is {image.shape} {image.dtype}, expected (H, W, 1 or 3) uint8 or uint16")
    if image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.ascontiguousarray(image)
    return torch.from_numpy(image).permute(2, 0, 1)


def _kind(path: str | Path) -> tuple[str, str]:
    """Return an image file's format and mode, from its head alone."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"frame {path} has {image.width}x{image.height} pixels but {MAX_PIXELS} are the most")
            plain = "transparency" not in image.info
            return str(image.format) if plain else "transparent", image.mode
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"frame {path} {why_unreadable(path, error)}") from error


def _is_whole(data: bytes) -> bool:
    """Whether the image's end is there: OpenCV fills what is missing of a JPEG with grey and says nothing."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data
    return not data.startswith(b"\xff\xd8") or data.find(b"\xff\xd9", _scan(data)) >= 0


def _scan(data: bytes) -> int:
    """Return where a JPEG's compressed pixels begin: behind its segments, one of which may hold a small picture."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at
