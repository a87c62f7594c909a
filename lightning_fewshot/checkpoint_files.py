"""Checkpoint files: written whole or not at all, and verified when they are read.

A checkpoint is a zip of uncompressed records, each with a CRC-32 of its bytes: a flipped bit, a half-written file or a
file of another kind is found before anything of it is used.
"""

from __future__ import annotations

import errno
import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def write_checkpoint(content: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint so that a kill at any moment leaves the old file or the new one.

    The new file is written beside the old one, which need not be on the file system of the temporary folder, brought to
    the disk and renamed.

    Raises:
        OSError: It cannot be written; names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with open(part, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, f"cannot write the checkpoint: {error.strerror or error}", str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what a checkpoint holds, on the CPU: tensors and plain data, never code.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no checkpoint, or holds more than tensors and plain data; says which.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a checkpoint")
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    verify(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever a file of another program makes torch's reader stumble over
        raise ValueError(f"{path} is no checkpoint of tensors and plain data alone, and is not opened") from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path} is no checkpoint: it has no 'state_dict' of tensors")
    return content


def verify(path: Path) -> None:
    """Compare every record of a checkpoint with its checksum.

    Raises:
        ValueError: The file is truncated, damaged, or no checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as records:
            if any(record.compress_type != zipfile.ZIP_STORED for record in records.infolist()):
                raise ValueError(f"{path} is not a checkpoint: its records are compressed")
            damaged = records.testzip()
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        UnicodeError,
        OSError,
        OverflowError,
    ) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a seek to nowhere is damage
            raise
        raise ValueError(f"{path} is truncated or not a checkpoint") from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged: the checksum of its record {damaged} is wrong")


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of the checkpoint to start from.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"init_from is {path}, but there is no such file")
    return read_checkpoint(path)["state_dict"]
