"""How every entry point runs: errors a user can act on end in one message and a status, never in a traceback."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version

from expo_lite.core.errors import CheckpointError, ConfigError, DataError, ExpoLiteError
from expo_lite.core.terminal import tell

SAME_FOR_ALL = (ConfigError, DataError, CheckpointError)
"""What all processes that a launcher starts together meet alike: the first one says it."""
FAILED, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


def command(body: Callable[[list[str]], int | None]) -> Callable[..., int]:
    """A command's entry point: its arguments in (the process's own, if none are given), its exit status out."""

    @wraps(body)
    def main(argv: list[str] | None = None) -> int:
        return run(lambda: body(sys.argv[1:] if argv is None else argv))

    return main


def run(body: Callable[[], int | None]) -> int:
    """Run an entry point's body and return the exit status.

    Its own, 2 for a known error, 130 for Ctrl-C, 141 where whoever read the output has gone.
    """
    hush_libraries()
    avoid_fragments()
    try:
        status = body() or 0
        sys.stdout.flush()  # while a closed pipe can still be answered for
        return status
    except ExpoLiteError as error:
        if os.environ.get("RANK", "0") == "0" or not isinstance(error, SAME_FOR_ALL):
            tell(str(error), sys.stderr)
        return FAILED
    except BrokenPipeError:  # whoever read has had enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        return PIPE_CLOSED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def avoid_fragments() -> None:
    """Let torch grow its GPU memory blocks in place, as the memory plan assumes. Before torch is imported.

    Up to 2.10 torch ignores the newer name of the variable without a word (pytorch issue 183387). What the user has set
    under either name stays.
    """
    old, new = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"
    if old in os.environ or new in os.environ:
        return
    major, minor = version("torch").split(".")[:2]
    os.environ[new if (int(major), int(minor)) >= (2, 11) else old] = "expandable_segments:True"


def hush_libraries() -> None:
    """Silence warnings that ask for no action. The first comes while bitsandbytes is imported, so this must run before.

    It misses a CPU kernel for repacked weights, and repacking is what `model.base.avoid_in_place_repacking` turns off.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, in a notebook without ipywidgets
