"""Going on after the device ran out of memory: the same work in halves."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch

from expo_lite.core.errors import MemoryBudgetError, first_line

Item = TypeVar("Item")
Argument = TypeVar("Argument")
Result = TypeVar("Result")

ALONE_TOO_LARGE = "out of GPU memory with a single sequence"
# what CUDA's libraries raise, as plain RuntimeErrors, for memory that they ask for themselves
_SAYS_SO = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")


def in_halves(
    items: Sequence[Item], work: Callable[[Sequence[Item]], Result], halve: Callable[[], None], setting: str
) -> Iterator[Result]:
    """Results of `work` on all items; where it runs out of memory, on half as many at a time, and so on.

    `work` must leave nothing behind when it fails. `halve` is told of each halving, to keep the smaller size. A single
    item gets a second attempt, for other programs' use of the device comes and goes.
    Raises MemoryBudgetError, naming `setting`, if it does not fit then either.
    """
    done, size, second_attempt = 0, len(items), False
    while done < len(items):
        part = items[done : done + size]
        results, reason = attempt(work, part)
        if results:
            yield from results
            done, second_attempt = done + len(part), False
        elif second_attempt:
            raise MemoryBudgetError(f"{setting}: {ALONE_TOO_LARGE} ({reason})")
        else:
            free_memory()
            second_attempt = len(part) == 1
            if not second_attempt:
                size = len(part) // 2
                halve()


def until_it_fits(
    work: Callable[[int], object], left: Callable[[], int], most: int, halve: Callable[[], None], setting: str
) -> None:
    """Let `work` do what is `left`, at most so much at once; where it runs out of memory, it goes on with half of that.

    What it had done by then stays done. `halve` and a single item's second attempt are as in `in_halves`.
    Raises MemoryBudgetError, naming `setting`, if a single item does not fit.
    """
    size, alone_failed_at = most, 0
    while todo := left():
        size = min(size, todo)
        results, reason = attempt(work, size)
        if results:
            return
        free_memory()
        if size > 1:
            size //= 2
            halve()
        elif alone_failed_at == left():
            raise MemoryBudgetError(f"{setting}: {ALONE_TOO_LARGE} ({reason})")
        else:
            alone_failed_at = left()


def attempt(work: Callable[[Argument], Result], argument: Argument) -> tuple[list[Result], str]:
    """The result of `work`, or none and the device's words where memory ran out.

    When this returns the error is gone, and with it the frames that keep the failed attempt's tensors alive.
    """
    try:
        return [work(argument)], ""
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return [], reason_of(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory is used up."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _SAYS_SO)


def reason_of(error: BaseException) -> str:
    """The device's own words, without the advice that follows them: "CUDA out of memory. Tried to allocate 2 GiB"."""
    return ". ".join(first_line(error).split(". ")[:2]).rstrip(".")


def how_to_begin(error: BaseException) -> str:
    """One sentence: why memory ran out before the first step, and what helps."""
    early = f"memory.budget_gib: out of GPU memory before training began ({reason_of(error)})"
    return (
        f"{error if isinstance(error, MemoryBudgetError) else early}; end other programs that use the GPU, or set a "
        "lower rollout.max_new_tokens or a smaller policy.model."
    )


def how_to_go_on(error: BaseException, saved_after: int, run: Path, logprob_chunk: int) -> str:
    """One sentence: why memory ran out, after which step the run is saved, and with which settings it can go on."""
    why = str(error) if isinstance(error, MemoryBudgetError) else f"memory.budget_gib: {reason_of(error)}"
    return (
        f"{why}; the run is saved after step {saved_after}: with more memory free, a higher memory.budget_gib or a "
        f"memory.logprob_chunk below {logprob_chunk} it goes on by python -m expo_lite.train --resume --run {run}, "
        "and a new run would fit with a lower rollout.max_new_tokens or a smaller policy.model."
    )


def free_memory() -> None:
    """Give cached blocks back to the device, and what lies free between others' on the heap to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":  # glibc keeps blocks below 32 MiB once such a size was freed; others have no such call
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
