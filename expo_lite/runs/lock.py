"""One process at a time in a run folder: a lock that the operating system drops when its process ends."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

from expo_lite.core.errors import CheckpointError
from expo_lite.core.locks import lock

_BUSY = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}


class RunLock:
    """Held from creation to `release` or the end of the process, however it ends. `flag` is what names its folder.

    Raises:
        CheckpointError: another process (or another `RunLock` of this one) holds it; the message names its pid.
    """

    def __init__(self, path: Path, flag: str = "--run") -> None:
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lock(self._fd)
        except OSError as error:
            owner = os.pread(self._fd, 32, 0) if hasattr(os, "pread") else os.read(self._fd, 32)
            if error.errno in _BUSY:
                self.release()
                pid = owner.decode("ascii", "replace").strip() or "unknown"
                message = (
                    f"{path.parent} is in use by another process (pid {pid}); wait for it or choose another {flag}"
                )
                raise CheckpointError(message) from None
            warnings.warn(f"{path.parent}: this file system has no locks; start no second run here", stacklevel=2)
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())
        # A forked worker shares the lock, and would keep it held after this process has been killed.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.release)

    def release(self) -> None:
        """Let go of the lock; the file stays, since removing it would race with the next owner."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
