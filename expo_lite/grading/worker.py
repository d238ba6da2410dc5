"""What runs in a verifier's worker process: one judgement at a time, in bounded time and memory, and never an orphan.

No thread inside helps: `9**9**9` holds the interpreter for as long as it takes. So the kernel keeps the time.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys

MEMORY_BYTES = 2 * 1024**3
"""What judging may take beside what the process has once math-verify is imported."""
_PR_SET_PDEATHSIG = 1


def start_worker() -> None:
    """Bind the process to its parent, import math-verify before the clock of a first judgement starts, limit memory."""
    _end_with_parent()
    import math_verify  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of its timeouts being off
    _limit_memory()


def judged(gold: str, answer: str, seconds: int) -> bool:
    """Return whether two answers agree; where it takes too long, the process ends by SIGALRM (not on Windows)."""
    from expo_lite.grading.symbolic import mathematically_agree

    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
    try:
        return mathematically_agree(gold, answer)
    finally:
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def _end_with_parent() -> None:
    """On Linux, be killed when the thread that started this process ends. Elsewhere the alarm ends a judgement."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it ended before
        os._exit(1)


def _limit_memory() -> None:
    """Limit the address space, where the system knows how: a hostile answer then meets a MemoryError."""
    if sys.platform == "win32":
        return
    import resource

    import psutil

    limit = psutil.Process().memory_info().vms + MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(ValueError, OSError):  # macOS
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
