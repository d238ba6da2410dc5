"""Going on after the device ran out of memory: the same work in halves."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from expo_lite.errors import MemoryBudgetError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_halves(
    items: Sequence[Item], work: Callable[[Sequence[Item]], Result], halve: Callable[[], None], setting: str
) -> Iterator[Result]:
    """Results of `work` on all items; where it runs out of memory, on each half, and so on.

    `work` must leave nothing behind when it fails. `halve` is told each time, to keep the smaller size.
    Raises MemoryBudgetError, naming `setting`, if a single item does not fit.
    """
    try:
        yield work(items)
        return
    except torch.OutOfMemoryError as error:
        if len(items) == 1:
            raise MemoryBudgetError(
                f"{setting}: out of GPU memory with a single sequence: {str(error).splitlines()[0]} "
                "Lower rollout.max_new_tokens, or choose a smaller policy.model."
            ) from None
    # Outside the except block: while the error is handled, its frames keep the tensors of the failed attempt alive.
    free_memory()
    halve()
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        yield from in_halves(half, work, halve, setting)


def free_memory() -> None:
    """Give cached blocks back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
