"""Rows of local files, each with its line: JSON lines and CSV, gzipped or not, Parquet, and Arrow from `save_to_disk`.

Read here and not through `datasets`, which names no line, takes latin-1 for UTF-8 and makes numbers and nulls of text.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from expo_lite.core.errors import DataError
from expo_lite.problems.columns import DataRow
from expo_lite.problems.tables import read_arrow, read_parquet
from expo_lite.problems.text_files import read_csv, read_jsonl

_TEXT: dict[str, Callable[[bytes, Path], Iterator[DataRow]]] = {
    ".jsonl": read_jsonl,
    ".json": read_jsonl,
    ".csv": read_csv,
}
_TABLES = {".parquet": read_parquet, ".arrow": read_arrow}
KINDS = ".jsonl, .json, .csv, .parquet"

_GZIP = b"\x1f\x8b"
_UNPACK = "unpack it"
_OTHER_KINDS = (
    (b"PAR1", "a Parquet file", "name it .parquet"),
    (b"ARROW1", "an Arrow file", "name it .arrow"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"\xfd7zXZ", "compressed by xz", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"SQLite format 3", "an SQLite database", "export its table as CSV"),
    (b"%PDF", "a PDF", "write its problems as JSON lines"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "fetch that with `git lfs pull`"),
    (b"<!doctype html", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
)
"""How files begin that are taken for text by their name, what they are, and what to do."""


def kind_of(path: Path) -> str | None:
    """How a file is read, by the end of its name; None where it is not."""
    name = path.name.lower()
    ends = [end for end in (*_TEXT, *_TABLES) if name.endswith(end) or (end in _TEXT and name.endswith(f"{end}.gz"))]
    return ends[0] if ends else None


def read_file(path: Path) -> Iterator[DataRow]:
    """Every row of a file. What is wrong with a row is said in the row; DataError for what spoils the whole file."""
    kind = kind_of(path)
    if kind in _TABLES:
        return _TABLES[kind](path)
    return _TEXT[kind or ".jsonl"](_contents(path), path)


def _contents(path: Path) -> bytes:
    """The bytes of a text file, unpacked. Raises DataError where they cannot be had or are no text."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is damaged or cut off, so it cannot be unpacked ({error}).") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    if encoding := _wide_encoding(data):
        raise DataError(f"{path}:1: not UTF-8 text but {encoding}; save the file as UTF-8.")
    start = data[:1000].lstrip().lower()
    for mark, kind, remedy in _OTHER_KINDS:
        if data.startswith(mark) or start.startswith(mark):
            raise DataError(f"{path}: is {kind}; {remedy}.")
    return data


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32 by their mark, or by the zeros beside every ASCII character."""
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    start = data[:200]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or start.count(0) > len(start) // 3:
        return "UTF-16"
    return None
