"""MATLAB's files, version 5: lists and labels of data sets from the time before json.

scipy's reader ends the process at some damaged files. Source: "MAT-File Format", The MathWorks, chapter 1.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_fewshot.text import read_bytes

MOST_BYTES = 2**28  # of a file, and of what a part of it is unpacked to
DEEPEST = 20  # cells in cells
HEADER = 128
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # table 1-1
ENCODINGS = {16: "utf-8", 17: "utf-16", 18: "utf-32", 4: "utf-16", 1: "latin-1", 2: "latin-1"}
MATRIX, COMPRESSED = 14, 15
CELL, STRUCTURE, TEXT = 1, 2, 4  # table 1-3
NUMBERS = range(6, 16)


def read_mat(path: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """Read a file's variables: arrays of numbers without axes of length 1, texts, lists (cells) and dicts (structures).

    What is of another kind, such as a sparse matrix, is None.

    Args:
        path: The file.
        names: Variables that it must have.

    Raises:
        ValueError: It is truncated or of another kind, or lacks a variable; names it.
    """
    raw = read_bytes(path, MOST_BYTES)
    if raw[124:126] != b"\0\1" and raw[124:126] != b"\1\0":
        raise ValueError(f"{path} is no file of MATLAB's version 5: save it with -v7")
    try:
        content = dict(_Part(raw[HEADER:], "<" if raw[126:128] == b"IM" else ">").variables())
    except (ValueError, KeyError, IndexError, zlib.error, LookupError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} is truncated or no file of MATLAB: {str(error)[:200] or repr(error)}") from error
    if missing := [name for name in names if name not in content]:
        raise ValueError(f"{path} has no {missing[0]!r} but must have {', '.join(names)}")
    return content


class _Part:
    """Data elements in a row.

    Args:
        raw: Their bytes.
        order: "<" or ">", the order of bytes.
        depth: How many parts it lies in.
    """

    def __init__(self, raw: bytes, order: str, depth: int = 0) -> None:
        if depth > DEEPEST:
            raise ValueError(f"cells are nested deeper than {DEEPEST}")
        self.raw = raw
        self.order = order
        self.depth = depth
        self.at = 0

    def variables(self) -> list[tuple[str, Any]]:
        """Read all variables with their names."""
        found = []
        while self.at < len(self.raw):
            kind, data = self._element()
            if kind == COMPRESSED:
                unpack = zlib.decompressobj()
                data = unpack.decompress(data, MOST_BYTES)
                if unpack.unconsumed_tail:
                    raise ValueError(f"a variable has more than {MOST_BYTES} bytes when it is unpacked")
                kind, data = self._inner(data)._element()
            if kind == MATRIX:
                found.append(self._inner(data)._matrix())
        return found

    def _inner(self, data: bytes) -> _Part:
        return _Part(data, self.order, self.depth + 1)

    def _element(self) -> tuple[int, bytes]:
        """Return type and data of the next element; the tag of a small one holds its data."""
        word = int(self._array(4, "u4")[0])
        size, padded = word >> 16, 4
        if not size:
            size = int(self._array(4, "u4")[0])
            padded = size if word == COMPRESSED else -(-size // 8) * 8
        return word & 0xFFFF, self._take(padded)[:size] if padded >= size else self._take(size)

    def _array(self, size: int, kind: str) -> np.ndarray:
        return np.frombuffer(self._take(size), self.order + kind)

    def _take(self, size: int) -> bytes:
        end = min(self.at + size, len(self.raw))
        data, self.at = self.raw[self.at : end], self.at + size
        if size - len(data) >= 8:  # the padding of the last element may be missing
            raise ValueError(f"it ends {size - len(data)} bytes too early")
        return data

    def _numbers(self) -> np.ndarray:
        kind, data = self._element()
        return np.frombuffer(data, self.order + TYPES[kind])

    def _value(self) -> Any:
        kind, data = self._element()
        if kind != MATRIX:
            raise ValueError(f"it has an element of type {kind} where a matrix belongs")
        return self._inner(data)._matrix()[1] if data else np.zeros(0)

    def _matrix(self) -> tuple[str, Any]:
        """Return name and value of a matrix."""
        kind = int(self._numbers()[0]) & 0xFF
        shape = [int(n) for n in self._numbers()]
        name = self._element()[1].decode("latin-1")
        count = math.prod(shape)
        if kind in NUMBERS:
            return name, self._numbers().reshape(shape, order="F").squeeze()
        if kind == TEXT:
            return name, self._text()
        if kind in (CELL, STRUCTURE) and not 0 <= count <= len(self.raw):
            raise ValueError(f"{name or 'a part'} has the shape {shape} but {len(self.raw)} bytes")
        if kind == CELL:
            return name, [self._value() for _ in range(count)]
        return name, self._structures(count) if kind == STRUCTURE else None

    def _text(self) -> str:
        kind, data = self._element()
        encoding = ENCODINGS[kind] + (("-le" if self.order == "<" else "-be") if kind in (4, 17, 18) else "")
        return data.decode(encoding)

    def _structures(self, count: int) -> Any:
        """Return a structure as a dict, several as a list."""
        width = int(self._numbers()[0])
        names = self._element()[1]
        if width < 1:
            raise ValueError(f"the names of a structure's fields have {width} bytes")
        keys = [names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)]
        found = [{key: self._value() for key in keys} for _ in range(count)]
        return found[0] if count == 1 else found


def whole_numbers(values: Any, source: str) -> list[int]:
    """Return a variable as a list of numbers from 1.

    Args:
        values: The variable.
        source: File and name, for the error.

    Raises:
        ValueError: It holds something else.

    >>> whole_numbers(np.array([[1.0, 3.0]]), "a.mat: labels")
    [1, 3]
    """
    numbers = np.atleast_1d(values).ravel() if isinstance(values, np.ndarray) else np.array([None])
    if numbers.dtype.kind not in "iuf" or not (np.isfinite(numbers) & (numbers >= 1) & (numbers % 1 == 0)).all():
        raise ValueError(f"{source} must hold whole numbers from 1 but has others, or something else")
    return numbers.astype(int).tolist()


def texts(values: Any, source: str) -> list[str]:
    """Return a variable as a list of texts; arguments and errors as :func:`whole_numbers`."""
    found = values if isinstance(values, list) else [values]
    found = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in found]
    if wrong := [value for value in found if not isinstance(value, str)]:
        raise ValueError(f"{source} must hold texts but has {str(wrong[0])[:60]!r}")
    return [text.strip() for text in found]
