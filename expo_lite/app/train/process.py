"""Which process trains a run: told by its command line and the run folder's lock, never by its number alone.

Imports neither torch nor gradio.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import psutil

from expo_lite.core.locks import is_held

LOCK = ".lock"
"""The run folder's lock file; its text is the pid of the last process that worked on the run."""


def last_pid(folder: Path) -> int | None:
    """The process that was the last to work on the run, if its folder names one."""
    try:
        return int((folder / LOCK).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def trains(pid: int, folder: Path) -> bool:
    """Whether the process lives and trains this very run: the number of one that has ended is given to others.

    One that is still loading holds no lock yet; the app's own are known by the folder at their command's end. To look
    at the lock comes last, for a look could get in the way of one that is just about to take it.
    """
    words = command_of(pid)
    return is_training_command(words) and (" ".join(words).endswith(f"/{folder.name}") or is_held(folder / LOCK))


def command_of(pid: int) -> list[str]:
    """A living process's command line in words; empty for one that has ended, or that we may not look at."""
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def is_training_command(words: list[str]) -> bool:
    """Whether a command line is that of a training: `python -m expo_lite.train`, or `expo-lite train`."""
    if "-m" in words and words[words.index("-m") + 1 :][:1] == ["expo_lite.train"]:
        return True
    names = [Path(word).name for word in words[:4]]
    return any(pair in (("expo-lite", "train"), ("expo_lite", "train")) for pair in itertools.pairwise(names))
