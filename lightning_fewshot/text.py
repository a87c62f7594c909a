"""Text that tools and people write: one way to read annotation files, with an error that names the file and the line.

Byte order marks, the line ends of every system, tabs, commas, blank lines and comments make no difference.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

MAX_ALIASES = 10  # of a yaml with data: more may stand for billions of entries
LONGEST_NAME = 255  # bytes of a file name on any file system
MAX_NESTING = 100  # brackets in brackets of a yaml, whose parser takes quadratic time
MAX_YAML_BYTES = 1_000_000
MAX_BYTES = 4 * 2**30  # of a text file; the largest annotations of public data sets have 1.2 GB
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_text(path: str | Path, most: int = MAX_BYTES) -> str:
    """Read a text file in UTF-8, or in UTF-16 with its mark; every line ends in ``\\n``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no regular file, no text, larger than ``most`` bytes, or in another encoding; names the line.
    """
    raw = read_bytes(path, most)
    encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + raw[: error.start].count(b"\n")
        raise ValueError(f"{path} line {line} is not in UTF-8: save the file in that encoding") from error
    if "\0" in text:
        raise ValueError(f"{path} is no text: it holds zero bytes")
    return text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: str | Path, most: int = MAX_BYTES) -> bytes:
    """Read a regular file; a pipe or device is refused.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no regular file, or larger than ``most`` bytes.
    """
    path = Path(path)
    if not path.is_file():
        if path.exists():
            raise ValueError(f"{path} is no regular file")
        raise FileNotFoundError(f"there is no file {path}")
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path} has {size} bytes but {most} are the most of a text file")
    return path.read_bytes()


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Return the lines that say something, with their numbers from 1: neither blank nor a comment (``#``)."""
    return [(number, line) for number, line in numbered_lines(path) if line]


def numbered_lines(
    path: str | Path, comments: tuple[str, ...] = ("#",), most: int = MAX_BYTES
) -> list[tuple[int, str]]:
    """Return the lines with their numbers from 1, stripped; without comments, and without blank lines at the end.

    Args:
        path: The file.
        comments: What a comment begins with.
        most: Bytes of the largest file that is read.
    """
    lines = enumerate((line.strip() for line in read_text(path, most).split("\n")), 1)
    kept = [(number, line) for number, line in lines if not line.startswith(comments)]
    while kept and not kept[-1][1]:
        kept.pop()
    return kept


def fields(line: str) -> list[str]:
    """Split a line at blanks, tabs, commas and semicolons.

    >>> fields("1, 2\\t3;4  5,")
    ['1', '2', '3', '4', '5']
    """
    return [field for field in re.split(r"[\s,;]+", line) if field]


def read_csv(path: str | Path) -> list[list[str]]:
    """Read the rows of a csv file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no csv.
    """
    try:
        return list(csv.reader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise ValueError(f"{path} is no csv: {error}") from error


def read_json(path: str | Path) -> Any:
    """Read a json file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is truncated or no json; names the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is truncated or no json: line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is no json of annotations: it is nested too deep") from error
    except ValueError as error:
        raise ValueError(error if str(path) in str(error) else f"{path} is no json of annotations: {error}") from error


def read_yaml(path: str | Path) -> Any:
    """Read a yaml file with plain data.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no yaml, has more than ``MAX_YAML_BYTES`` bytes or ``MAX_ALIASES`` aliases, or is nested
            deeper than ``MAX_NESTING``.
    """
    import yaml

    text = read_text(path, MAX_YAML_BYTES)
    if (depth := nesting(text)) > MAX_NESTING:
        raise ValueError(f"{path} is nested {depth} deep but {MAX_NESTING} is the most of a yaml")
    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
        if aliases <= MAX_ALIASES:
            return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} is truncated or no yaml: {' '.join(str(error).split())[:200]}") from error
    raise ValueError(f"{path} has {aliases} aliases but {MAX_ALIASES} are the most")


def nesting(text: str) -> int:
    """Return how many brackets are open at once.

    >>> nesting("a: [1, {b: [2]}]")
    3
    """
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
    return max(accumulate(steps), default=0)


def read_xml(path: str | Path) -> ElementTree.Element:
    """Read an XML file in the encoding that it declares.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is truncated or no XML; names the line.
    """
    try:
        return ElementTree.fromstring(read_bytes(path))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(f"annotation {path} is truncated or no XML: {error}") from error


def as_number(value: Any) -> float | None:
    """Return a number that a file holds as number or text; None: it is none, or not finite.

    >>> [as_number(v) for v in (3, "4.5", True, None, [1], 10**400, float("nan"))]
    [3.0, 4.5, None, None, None, None, None]
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def inner_path(name: Any, source: str) -> str:
    """Return a file name from an annotation as a relative path that cannot leave its folder.

    Args:
        name: What stands there.
        source: The file and row, for the error.

    Raises:
        ValueError: It is no text, absolute, leads outside, or is no possible file name.

    >>> inner_path(r"train\\\\a.jpg", "a.json")
    'train/a.jpg'
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{source} has the file name {str(name)[:80]!r} but must have a text")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        raise ValueError(f"{source} names the file {name[:80]!r}, which is outside its folder")
    encoded = [part.encode("utf-8", "surrogatepass") for part in path.parts]
    if any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in name) or any(len(p) > LONGEST_NAME for p in encoded):
        raise ValueError(f"{source} names the file {name[:80]!r}, which no file can be called")
    return path.as_posix()
