"""Locks on files, which the operating system drops when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_WINDOWS_OFFSET = 1 << 20  # Windows locks are mandatory: lock a byte behind what is written, so that it can be read


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Within it this process holds the lock of a file, which is made; where a file system has none, nothing is held."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with contextlib.suppress(OSError):
            lock(fd)
        yield
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock; True too where that cannot be found out."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:  # someone else's folder
        return True
    try:
        lock(fd, shared=True)  # lookers do not take each other for owners
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


if sys.platform == "win32":
    import msvcrt

    def lock(fd: int, shared: bool = False) -> None:
        """Take the lock of an open file. Raises OSError where another process has it."""
        os.lseek(fd, _WINDOWS_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def lock(fd: int, shared: bool = False) -> None:
        """Take the lock of an open file. Raises OSError where another process has it."""
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
