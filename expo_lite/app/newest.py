"""What was made of files that grow or change: one value a file, the newest. Imports no torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Newest(Generic[Value]):
    """Keeps the values of at most `most` files; the one that was not asked for the longest goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Path, Value] = OrderedDict()
        self._lock = Lock()  # visitors' events come in threads

    def renewed(self, path: Path, renew: Callable[[Value | None], Value]) -> Value:
        """What `renew` makes of the value kept so far (or None). Where it raises, nothing is kept."""
        with self._lock:
            value = self._kept[path] = renew(self._kept.pop(path, None))
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return value

    def __len__(self) -> int:
        return len(self._kept)
