"""A GPU that is not there: torch's own `torch.cuda`, on a driver made of Python.

`torch.cuda` is Python that checks its arguments and then calls C functions, which a CPU build of torch lacks. Only
those are made up here (`torch._C._cuda_*`), so the checks that a call meets are torch's own, and a function that is not
made up is an AttributeError. Tensors stay in the computer's memory but know that they belong to the card
(`card_tensors`): what mixes the two devices is refused as on a card, what is alive on it counts against its memory, and
what makes the host wait for it is counted.

What it cannot show: kernels (a CPU's are run; bitsandbytes is imported before there is a card, and takes its CPU
library), their rounding and speed, work on several streams, and the fragmentation of a real allocator.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from support.card_graphs import Streams, graphs_on
from support.replacing import replaced

GIB = 2**30
CONTEXT = int(0.4 * GIB)  # what cudaMemGetInfo misses for the context


@dataclass(frozen=True)
class Card:
    """What torch reports of a GPU: its name, compute capability, memory in bytes, and number of multiprocessors."""

    name: str
    capability: tuple[int, int]
    total_memory: int
    multi_processor_count: int


CARDS = {
    "t4": Card("Tesla T4", (7, 5), int(14.6 * GIB), 40),
    "3060": Card("NVIDIA GeForce RTX 3060", (8, 6), int(11.8 * GIB), 28),
    "4090": Card("NVIDIA GeForce RTX 4090", (8, 9), int(23.6 * GIB), 128),
    "h100": Card("NVIDIA H100 80GB HBM3", (9, 0), int(79.1 * GIB), 132),
}


@dataclass
class Driver:
    """The card's state: what is allocated on it, and what was asked of it. Device 0 is the only one."""

    card: Card
    fraction: float = 1.0
    allocated: int = 0
    reserved: int = 0  # blocks that were freed stay with the process until its cache is emptied
    peak_allocated: int = 0
    peak_reserved: int = 0
    refuse_after: int | None = None  # allocations; then one is refused, as where other programs have taken the memory
    hidden: bool = False
    waits: Counter[str] = field(default_factory=Counter)  # times that the host waited for the card, by operator
    calls: Counter[str] = field(default_factory=Counter)  # C functions that were called
    attention: Counter[str] = field(default_factory=Counter)  # kernels that attention would take, see card_tensors
    streams: Streams = field(default_factory=Streams)
    lock: Any = field(default_factory=threading.RLock)

    @property
    def limit(self) -> int:
        """Bytes that this process may reserve."""
        return min(int(self.fraction * self.card.total_memory), self.card.total_memory - CONTEXT)

    def allocate(self, size: int) -> None:
        """Take `size` bytes. Raises torch.OutOfMemoryError beyond the limit, as torch does after emptying its cache."""
        size = -(-size // 512) * 512
        with self.lock:
            if self.refuse_after is not None:
                self.refuse_after = self.refuse_after - 1 if self.refuse_after else None
            if self.allocated + size > self.limit or self.refuse_after == 0:
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {size / GIB:.2f} GiB. GPU 0 has a total capacity of "
                    f"{self.card.total_memory / GIB:.2f} GiB of which {(self.limit - self.allocated) / GIB:.2f} GiB is "
                    "free."
                )
            self.allocated += size
            self.reserved = max(self.reserved, self.allocated)
            self.peak_allocated = max(self.peak_allocated, self.allocated)
            self.peak_reserved = max(self.peak_reserved, self.reserved)

    def free(self, size: int) -> None:
        """Give bytes back to the process's cache."""
        with self.lock:
            self.allocated -= -(-size // 512) * 512


def ordinal(device: Any) -> int:
    """A device's number, as C takes it: an int that is in range."""
    if type(device) is not int:
        raise TypeError(f"invalid argument: expected an int as device, got {device!r}")
    if device != 0:
        raise RuntimeError("CUDA error: invalid device ordinal")
    return device


def c_functions(driver: Driver) -> dict[str, Any]:
    """What stands in `torch._C` of a CUDA build, by name, as far as it is used."""

    def count() -> int:
        unseen = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
        return 0 if driver.hidden or unseen else 1

    def init() -> None:
        torch.cuda._get_device_properties = properties  # type: ignore[attr-defined]
        torch.cuda.default_generators = (torch.Generator(),)

    def properties(device: int) -> Any:
        ordinal(device)
        card = driver.card
        return SimpleNamespace(
            name=card.name, major=card.capability[0], minor=card.capability[1], total_memory=card.total_memory,
            multi_processor_count=card.multi_processor_count, is_integrated=0, warp_size=32, gcnArchName="",
        )  # fmt: skip

    def set_fraction(fraction: float, device: int) -> None:
        ordinal(device)
        if not isinstance(fraction, float) or not 0 <= fraction <= 1:
            raise RuntimeError(f"invalid fraction: {fraction}. Please set within [0, 1].")
        driver.fraction = fraction

    def stats(device: int) -> dict[str, Any]:
        ordinal(device)
        sizes = {
            "allocated_bytes": (driver.allocated, driver.peak_allocated),
            "reserved_bytes": (driver.reserved, driver.peak_reserved),
        }
        return {name: {"all": {"current": now, "peak": peak}} for name, (now, peak) in sizes.items()}

    def reset_peaks(device: int) -> None:
        ordinal(device)
        driver.peak_allocated, driver.peak_reserved = driver.allocated, driver.reserved

    def empty_cache(*_: Any) -> None:
        driver.reserved = driver.allocated

    def synchronize() -> None:
        driver.waits["synchronize"] += 1
        driver.streams.meets("synchronize", waits=True, hands_over=False)

    return {
        "_cuda_getDeviceCount": count,
        "_cuda_init": init,
        "_cuda_isInBadFork": lambda: False,
        "_cuda_getArchFlags": lambda: "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120",
        "_cuda_getDevice": lambda: 0,
        "_cuda_setDevice": ordinal,
        "_cuda_exchangeDevice": ordinal,
        "_cuda_maybeExchangeDevice": lambda device: 0 if device < 0 else ordinal(device),
        "_cuda_setMemoryFraction": set_fraction,
        "_cuda_getMemoryFraction": lambda device: driver.fraction + ordinal(device),
        "_cuda_memoryStats": stats,
        "_cuda_resetPeakMemoryStats": reset_peaks,
        "_cuda_emptyCache": empty_cache,
        "_cuda_synchronize": synchronize,
        "_cuda_isCurrentStreamCapturing": lambda: driver.streams.capturing is not None,
        "_accelerator_getAccelerator": lambda: torch.device("cuda"),
        "_accelerator_getDeviceIndex": lambda: 0,
        "_accelerator_isAllocatorInitialized": lambda: True,
        "_accelerator_emptyCache": empty_cache,
        "_accelerator_hooks_device_count": count,
        "_accelerator_getStream": lambda device: SimpleNamespace(
            is_capturing=lambda: False, device_index=ordinal(device)
        ),
    }


def runtime(driver: Driver) -> Any:
    """What `torch.cuda.cudart()` gives."""

    def memory(device: int) -> tuple[int, int]:
        ordinal(device)
        total = driver.card.total_memory
        return total - CONTEXT - driver.reserved, total

    return SimpleNamespace(cudaMemGetInfo=memory)


@contextmanager
def driver_of(card: str) -> Iterator[Driver]:
    """Within it torch finds this card, one of CARDS, and nothing on it."""
    driver = Driver(CARDS[card])

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            driver.calls[name] += 1
            return function(*args)

        return call

    with ExitStack() as stack:
        for name, function in c_functions(driver).items():
            stack.enter_context(replaced(torch._C, name, counted(name, function)))
        for name, value in {
            "_cudart": runtime(driver),
            "_initialized": False,
            "_is_in_bad_fork": lambda: False,
            "_cached_device_count": None,
            "_get_device_properties": None,
            "_exchange_device": torch._C._cuda_exchangeDevice,  # type: ignore[attr-defined]  # bound at import
            "_maybe_exchange_device": torch._C._cuda_maybeExchangeDevice,  # type: ignore[attr-defined]
            "default_generators": (),
        }.items():
            stack.enter_context(replaced(torch.cuda, name, value))
        stack.enter_context(graphs_on(driver.streams))
        stack.enter_context(replaced(torch.version, "cuda", "13.0"))
        yield driver
