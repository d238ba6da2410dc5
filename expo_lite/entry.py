"""How every entry point runs: errors a user can act on end in one message and a status, never in a traceback."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from expo_lite.errors import ExpoLiteError

FAILED, INTERRUPTED = 2, 130


def run(body: Callable[[], int | None]) -> int:
    """Run an entry point's body and return the exit status: its own, 2 for a known error, 130 for Ctrl-C."""
    hush_libraries()
    avoid_fragments()
    try:
        return body() or 0
    except ExpoLiteError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def avoid_fragments() -> None:
    """Let torch grow its GPU memory blocks in place, as the memory plan assumes. Before torch is imported."""
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def hush_libraries() -> None:
    """Silence a warning that asks for no action; it comes while bitsandbytes is imported, so this must run before.

    It misses a CPU kernel for repacked weights, and repacking is what `policy.avoid_in_place_repacking` turns off.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
