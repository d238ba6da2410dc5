"""JSON lines and CSV: the bytes of a file in, its rows out, each with its line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from expo_lite.core.errors import DataError
from expo_lite.problems.columns import DataRow, refuse_repeated

_EXAMPLE = '{"question": "1+1?", "answer": "2"}'
_HOW = "`jq -c '.[]' FILE > problems.jsonl` does it for a list (with '.name[]' for one inside an object)."
_LONGEST_FIELD = 2**31 - 1  # the csv module's own 131,072 characters would refuse a file for one long text


class _RepeatedKey(Exception):
    """A key that stands twice in one object, of which JSON would take the last without a word."""


def read_jsonl(data: bytes, path: Path) -> Iterator[DataRow]:
    """An object a line. What is wrong with a row is said in the row; DataError for what spoils the whole file."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    lines = [(number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    rows = [_parse_line(line, f"{path}:{number}") for number, line in lines]
    if rows and rows[0].fault is not None and _is_one_document(data):
        raise DataError(f"{path}: is one JSON document; it should hold one object a line, like {_EXAMPLE}. {_HOW}")
    if len(rows) == 1:
        for name, value in rows[0].values.items():
            if isinstance(value, list) and len(value) > 1 and all(map(_is_object_but_no_turn, value)):
                raise DataError(f'{path}: holds all problems in one list, "{name}"; write one object a line. {_HOW}')
    return iter(rows)


def _is_object_but_no_turn(item: Any) -> bool:
    return isinstance(item, dict) and not {"role", "from"} & set(item)


def _is_one_document(data: bytes) -> bool:
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(whole, list) or b"\n" in data.strip()


def _parse_line(line: bytes, where: str) -> DataRow:
    try:
        values = json.loads(line.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        return DataRow(where, {}, f"not UTF-8 text (byte {error.start}); save the file as UTF-8")
    except json.JSONDecodeError as error:
        return DataRow(where, {}, f"not valid JSON: {error.msg} (column {error.colno})")
    except _RepeatedKey as error:
        return DataRow(where, {}, f"names the key {error} twice")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        return DataRow(where, {}, f"not usable JSON: {error}")
    if not isinstance(values, dict):
        return DataRow(where, {}, f"should be an object like {_EXAMPLE}, got {type(values).__name__}")
    return DataRow(where, values)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKey(json.dumps(next(name for name in names if names.count(name) > 1)))
    return values


def read_csv(data: bytes, path: Path) -> Iterator[DataRow]:
    """A record a row, below a line of names. All values stay text: 007, None and NA are what they look like."""
    header: list[str] = []
    for line, record in _records(_utf8(data, path), path):
        if not any(field.strip() for field in record):
            continue
        if not header:
            header = _header([field.strip() for field in record], path)
        elif len(record) != len(header):
            yield DataRow(f"{path}:{line}", {}, f"has {len(record)} fields, the header has {len(header)}")
        else:
            yield DataRow(f"{path}:{line}", dict(zip(header, record, strict=True)))


def _records(text: str, path: Path) -> list[tuple[int, list[str]]]:
    """Every record with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[tuple[int, list[str]]] = []
    usual = csv.field_size_limit(_LONGEST_FIELD)  # of the whole process, so it is put back
    line = 1
    try:
        for record in reader:
            records.append((line, record))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{line}: not valid CSV: {error}.") from error
    finally:
        csv.field_size_limit(usual)
    return records


def _header(names: list[str], path: Path) -> list[str]:
    if len(names) == 1 and re.search(r"[;\t]", names[0]):
        separator = "tabs" if "\t" in names[0] else "semicolons"
        raise DataError(f"{path}: its columns are separated by {separator}; save it with commas.")
    refuse_repeated(names, f"{path}: the first line")
    return names


def _utf8(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8.") from error
