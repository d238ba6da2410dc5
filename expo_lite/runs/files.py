"""Files that stay readable whatever happens: atomic writers, and JSON lines with a reader that tolerates a torn end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from expo_lite.core.errors import DataError
from expo_lite.runs.records import Fault

PARTIAL = ".partial-"
"""How the names of unfinished files and folders begin."""


def write_text(target: Path, text: str, durable: bool = True) -> None:
    """Replace a file: readers see the old or the new text, and with `durable` so they do after a power cut."""
    partial = target.with_name(PARTIAL + target.name)
    try:
        with open(partial, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder to fill. It takes the place of `target` when the block ends, and vanishes when the block fails."""
    partial, old = target.with_name(PARTIAL + target.name), target.with_name(f"{PARTIAL}old-{target.name}")
    remove(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        for entry in partial.rglob("*"):
            sync(entry)
        sync(partial)
        remove(old)
        if target.exists():  # a folder cannot be renamed over one that holds files
            os.replace(target, old)
        os.replace(partial, target)
        sync(target.parent)
    except BaseException:
        remove(partial)
        raise
    remove(old)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk (folders: where the system can)."""
    if path.is_dir() and os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, where it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The digest of a file's content, 64 hexadecimal digits."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def same_file(one: Path, other: Path) -> bool:
    """Whether both are there, with the same content."""
    return one.is_file() and other.is_file() and sha256(one) == sha256(other)


def digest(path: Path) -> str:
    """A short name of a file's content: 16 hexadecimal digits of its sha256."""
    return sha256(path)[:16]


def size_in_words(size: int) -> str:
    """A number of bytes in the largest unit of which there is at least one."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that every reader takes: numbers that are not finite become null.

    Raises:
        TypeError: the value holds something that is no JSON, such as a tensor.
    """
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)


def append_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add records in one write, so that a crash leaves at most one torn line, the last."""
    # backslashreplace: half of a surrogate pair becomes its JSON escape instead of an error
    lines = "".join(to_json(record) + "\n" for record in records).encode("utf-8", "backslashreplace")
    if lines:
        with open(path, "ab") as file:
            file.write(lines)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The records of a file that is being written, or was when its writer died: a torn last line is left out.

    Raises:
        DataError: a line before the last is damaged; the message names file and line.
    """
    return [record for _, record in jsonl_lines(path)]


def jsonl_lines(path: Path, fault: Fault | None = None) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines of a file as they stand (without line ends) with their records; else like `read_jsonl`.

    Raises:
        DataError: as `read_jsonl`, where `fault` finds something amiss in a record, and where the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    found: list[tuple[bytes, dict[str, Any]]] = []
    last = max((number for number, line in enumerate(lines, 1) if line.strip()), default=0)
    for number, line in enumerate(lines[:last], 1):
        record = record_in(line)
        if record is not None:
            if fault is not None and (amiss := fault(record)):
                raise damaged(path, number, amiss)
            found.append((line, record))
        elif line.strip() and number != last:
            raise damaged(path, number)
    return found


def damaged(path: Path, number: int, amiss: str = "is no JSON record") -> DataError:
    """The error that names a line and what is amiss there."""
    return DataError(f"{path}:{number}: {amiss}; the file was damaged, or edited by hand")


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_bytes()) if path.exists() else {}
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f"{path}: is no JSON object; it was damaged, or edited by hand: delete it")
    return value


def record_in(line: bytes) -> dict[str, Any] | None:
    """The record that a line holds; None where it holds none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value
