"""Rows of local files, each with its line: JSON lines, CSV, Parquet.

Read here and not through `datasets`, which names no line, takes latin-1 for UTF-8 and makes numbers and nulls of text.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from expo_lite.core.errors import DataError
from expo_lite.problems.columns import DataRow

_EXAMPLE = '{"question": "1+1?", "answer": "2"}'
_HOW = "`jq -c '.[]' FILE > problems.jsonl` does it for a list (with '.name[]' for one inside an object)."


def read_file(path: Path) -> Iterator[DataRow]:
    """Every row of a file. What is wrong with a row is said in the row; DataError for what spoils the whole file."""
    return READERS[path.suffix.lower()](path)


def _read_jsonl(path: Path) -> Iterator[DataRow]:
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    lines = [(number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    rows = [_parse_line(line, f"{path}:{number}") for number, line in lines]
    if rows and rows[0].fault is not None and _is_one_document(data):
        raise DataError(f"{path}: is one JSON document; it should hold one object a line, like {_EXAMPLE}. {_HOW}")
    if len(rows) == 1:
        for name, value in rows[0].values.items():
            if isinstance(value, list) and len(value) > 1 and all(isinstance(item, dict) for item in value):
                raise DataError(f'{path}: holds all problems in one list, "{name}"; write one object a line. {_HOW}')
    return iter(rows)


def _is_one_document(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _parse_line(line: bytes, where: str) -> DataRow:
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return DataRow(where, {}, f"not UTF-8 text (byte {error.start}); save the file as UTF-8")
    except json.JSONDecodeError as error:
        return DataRow(where, {}, f"not valid JSON: {error.msg} (column {error.colno})")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        return DataRow(where, {}, f"not usable JSON: {error}")
    if not isinstance(values, dict):
        return DataRow(where, {}, f"should be an object like {_EXAMPLE}, got {type(values).__name__}")
    return DataRow(where, values)


def _read_csv(path: Path) -> Iterator[DataRow]:
    """All values stay text: leading zeros, None and NA are what they look like."""
    reader = csv.reader(io.StringIO(_utf8(path), newline=""), strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not valid CSV: {error}.") from error
        if record is None:
            return
        if not any(field.strip() for field in record):
            continue
        if not header:
            header = _header([field.strip() for field in record], path)
        elif len(record) != len(header):
            yield DataRow(f"{path}:{line}", {}, f"has {len(record)} fields, the header has {len(header)}")
        else:
            yield DataRow(f"{path}:{line}", dict(zip(header, record, strict=True)))


def _header(names: list[str], path: Path) -> list[str]:
    if len(names) == 1 and re.search(r"[;\t]", names[0]):
        separator = "tabs" if "\t" in names[0] else "semicolons"
        raise DataError(f"{path}: its columns are separated by {separator}; save it with commas.")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: the first line names the column {', '.join(map(repr, repeated))} more than once.")
    return names


def _utf8(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8.") from error


def _read_parquet(path: Path) -> Iterator[DataRow]:
    import pyarrow  # late: it comes with `datasets` and is slow to load
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    for number, values in enumerate(table.to_pylist(), 1):
        yield DataRow(f"{path}, row {number}", values)


READERS = {".jsonl": _read_jsonl, ".json": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
KINDS = ", ".join(READERS)
