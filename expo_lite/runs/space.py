"""The space that a run's folder takes and has, and what is said where the disk does not take a file."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expo_lite.config.settings import Config
from expo_lite.core.errors import CheckpointError, ExpoLiteError
from expo_lite.model.policy import Policy
from expo_lite.runs.files import size_in_words

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_ELSEWHERE = (
    "No space left",
    "os error 28",
    "PytorchStreamWriter failed writing",
    "iostream error",
    "unexpected pos",
)
"""What safetensors and torch say, which hide the system's error."""


def two_checkpoints(config: Config, policy: Policy) -> int:
    """About how many bytes two checkpoints take, each with two adapters (one the best) and two moments."""
    numbers = sum(parameter.numel() for parameter in policy.trainable)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in policy.trainable)
    return 2 * (2 * weights + numbers * (2 if config.optimizer.name == "adamw_8bit" else 8))


def short_of(folder: Path, needed: int) -> str:
    """A sentence where a folder's disk has less than `needed` bytes; empty where it has more."""
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return ""
    return (
        f"{folder}: its disk has {size_in_words(free)} left, and two checkpoints take about {size_in_words(needed)}; "
        "free some space, or choose a --run elsewhere."
    )


@contextmanager
def said_if_refused(folder: Path, needed: int = 0) -> Iterator[None]:
    """Raises CheckpointError, one sentence, where the system refuses to read or write a run's folder."""
    try:
        yield
    except ExpoLiteError:
        raise
    except Exception as error:
        if is_full(error):
            raise CheckpointError(why_full(folder, needed)) from None
        if isinstance(error, OSError) and str(error.filename or "").startswith(str(folder)):
            raise CheckpointError(f"{error.filename} cannot be used ({error.strerror or error})") from None
        raise


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, is that of a disk without space."""
    while error is not None:
        if getattr(error, "errno", None) in FULL or any(words in str(error) for words in FULL_ELSEWHERE):
            return True
        error = error.__cause__ or error.__context__
    return False


def why_full(folder: Path, needed: int) -> str:
    """The sentence on a full disk."""
    free = size_in_words(shutil.disk_usage(folder if folder.exists() else folder.parent).free)
    takes = f", and two checkpoints take about {size_in_words(needed)}" if needed else ""
    return (
        f"{folder}: the disk is full ({free} left{takes}). What was saved before is whole: free some space, then go on "
        f"by --resume --run {folder}"
    )
