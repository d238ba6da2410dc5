"""Parquet, and Arrow as `save_to_disk` writes it: rows whose values are read a column at a time, when first asked for.

So a column that nobody asks for costs nothing, and may hold what cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expo_lite.core.errors import DataError, first_line
from expo_lite.problems.columns import DataRow, refuse_repeated
from expo_lite.problems.values import Unreadable


class _TableFile:
    """The columns of a file, each read once."""

    def __init__(self, path: Path, kind: str, names: Sequence[str], read: Callable[[str], Any]) -> None:
        refuse_repeated(names, f"{path}:")
        self.path, self.kind, self.names, self._read = path, kind, names, read
        self._columns: dict[str, Sequence[Any]] = {}

    def column(self, name: str) -> Sequence[Any]:
        """Python's values of a column, with Unreadable where there is none."""
        if name not in self._columns:
            with _named(self.path, self.kind):
                self._columns[name] = _values(self._read(name))
        return self._columns[name]


class _TableRow(Mapping[str, Any]):
    """One row of a table."""

    def __init__(self, table: _TableFile, number: int) -> None:
        self._table, self._number = table, number

    def __getitem__(self, name: str) -> Any:
        if name not in self._table.names:
            raise KeyError(name)
        return self._table.column(name)[self._number]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.names)

    def __len__(self) -> int:
        return len(self._table.names)


def read_parquet(path: Path) -> Iterator[DataRow]:
    """Every row of a Parquet file. Raises DataError, also later, when a column is asked for."""
    import pyarrow.parquet  # late: it comes with `datasets` and is slow to load

    with _named(path, "Parquet"):
        file = pyarrow.parquet.ParquetFile(path)
        table = _TableFile(path, "Parquet", file.schema_arrow.names, lambda name: file.read([name]).column(name))
        return _rows(table, file.metadata.num_rows)


def read_arrow(path: Path) -> Iterator[DataRow]:
    """Every row of an Arrow file or stream. Raises DataError."""
    import pyarrow.ipc

    with _named(path, "Arrow"):
        source = pyarrow.memory_map(str(path))
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        table = pyarrow.ipc.open_file(source).read_all() if is_file else pyarrow.ipc.open_stream(source).read_all()
        return _rows(_TableFile(path, "Arrow", table.column_names, table.column), table.num_rows)


def _rows(table: _TableFile, count: int) -> Iterator[DataRow]:
    return (DataRow(f"{table.path}, row {number + 1}", _TableRow(table, number)) for number in range(count))


def _values(column: Any) -> list[Any]:
    try:
        return column.to_pylist()
    except Exception:  # UnicodeDecodeError, OverflowError, ...: of one value; the others can be had
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return Unreadable("text that is not UTF-8")
    except Exception as error:
        return Unreadable(f"a value that cannot be read ({first_line(error)})")


@contextmanager
def _named(path: Path, kind: str) -> Iterator[None]:
    """What a library raises inside becomes an error that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be read as {kind}: {first_line(error)}") from error
