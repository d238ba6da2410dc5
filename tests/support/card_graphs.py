"""Streams and CUDA graphs of the made-up card: what is captured is every operator, with the very tensors that it met.

A replay computes the operators again, into the tensors of the capture: as on a card, Python is not run, a tensor that
has been replaced since is not looked at, and a number that the host put in stays. Until the first replay the capture's
own results are no numbers. A capture refuses what a real one does: that the host waits, and that it hands data over.

It cannot show whether a library's kernels can be captured, or start on another stream; nor how a pool's memory is used
again (here all that was captured stays allocated).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from support.replacing import replaced

NOT_PERMITTED = "CUDA error: operation not permitted when stream is capturing"
INVALIDATED = "CUDA error: operation failed due to a previous error during capture"
MODES = ("global", "thread_local", "relaxed")


class Recording:
    """What one capture has seen."""

    def __init__(self, pool: tuple[int, int]) -> None:
        self.pool, self.valid = pool, True
        self.operators: list[tuple[Any, Any, Any, list[tuple[Tensor, int]]]] = []

    def refuse(self, why: str) -> None:
        """End it as the driver does: from here on nothing but an error comes of it."""
        self.valid = False
        raise RuntimeError(f"{NOT_PERMITTED} ({why})")

    def add(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """An operator and those of its results that are no views and no arguments of it."""
        news = [
            (tensor, place)
            for place, (tensor, returned) in enumerate(zip(as_tuple(result), func._schema.returns, strict=False))
            if isinstance(tensor, Tensor) and returned.alias_info is None
        ]
        self.operators.append((func, args, kwargs, news))

    def forget(self) -> None:
        """Nothing has been computed yet."""
        for *_, news in self.operators:
            for tensor, _ in news:
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)

    def replay(self) -> None:
        """All operators again, in place of what they gave before."""
        for func, args, kwargs, news in self.operators:
            again = as_tuple(func(*args, **kwargs))
            for tensor, place in news:
                if tensor is not again[place]:
                    tensor.copy_(again[place])


def as_tuple(result: Any) -> tuple[Any, ...]:
    """An operator's results, of which one comes alone."""
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


class Streams:
    """Which stream is current, and what is being captured on it: the state of the card's driver."""

    def __init__(self) -> None:
        self.current, self.made, self.pools = 0, 0, 0
        self.capturing: Recording | None = None
        self.graphs: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()  # captured ones
        self.used: set[tuple[int, int]] = set()  # pools that graphs were captured with
        self.captures: list[int] = []  # operators of each capture that went well
        self.replays = 0
        self.joins: list[tuple[int, int]] = []  # (a stream, another one that it waits for)
        self.as_kernels: Callable[[], AbstractContextManager[None]] = nullcontext
        self.breaks: str = ""  # what the next capture meets: an error of this name

    def meets(self, name: str, waits: bool, hands_over: bool) -> None:
        """Refuse an operator that a capture cannot hold."""
        if self.capturing is None:
            return
        if waits:
            self.capturing.refuse(name)
        if hands_over:
            self.capturing.refuse(f"{name} of the host's own memory")


def stream_class(streams: Streams) -> dict[str, Any]:
    """Methods of torch._C._CudaStreamBase."""

    def new(cls: Any, priority: int = 0, stream_id: int | None = None, device_index: int = 0, device_type: int = 1):
        stream = object.__new__(cls)
        if stream_id is None:
            streams.made += 1
        stream.stream_id = streams.made if stream_id is None else stream_id
        stream.device_index, stream.device_type = device_index, device_type
        stream.device, stream.cuda_stream = torch.device("cuda", device_index), stream.stream_id
        return stream

    return {
        "__new__": new,
        "__init__": lambda self, *args, **kwargs: None,
        "__eq__": lambda self, other: self.stream_id == other.stream_id,
    }


def event_class(streams: Streams) -> dict[str, Any]:
    """Methods of torch._C._CudaEventBase."""

    def record(self: Any, stream: torch.cuda.Stream) -> None:
        self.of = stream.stream_id

    def wait(self: Any, stream: torch.cuda.Stream) -> None:
        streams.joins.append((stream.stream_id, self.of))

    return {
        "__new__": lambda cls, **kwargs: object.__new__(cls),
        "__init__": lambda self, *args, **kwargs: None,
        "record": record,
        "wait": wait,
    }


def graph_class(streams: Streams) -> dict[str, Any]:
    """Methods of torch._C._CUDAGraph (aten/src/ATen/cuda/CUDAGraph.cpp of torch 2.13)."""

    def new(cls: Any, keep_graph: bool = False) -> Any:
        if type(keep_graph) is not bool:
            raise TypeError("__init__(): incompatible constructor arguments")
        return object.__new__(cls)

    def begin(self: Any, pool: tuple[int, int] | None = None, capture_error_mode: str = "global") -> None:
        if getattr(self, "recording", None) is not None:
            raise RuntimeError("This CUDAGraph instance already owns a captured graph.")
        if capture_error_mode not in MODES:
            raise RuntimeError(f"Unknown capture error mode. Expected one of {MODES}, got {capture_error_mode}")
        if streams.current == 0:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream.")
        if pool in streams.used and pool not in set(streams.graphs.values()):
            raise RuntimeError("it->second->use_count > 0 INTERNAL ASSERT FAILED")
        streams.capturing = Recording(pool or (0, 0))
        if streams.breaks:
            streams.capturing.refuse(streams.breaks)

    def end(self: Any) -> None:
        recording, streams.capturing = streams.capturing, None
        if recording is None or not recording.valid:
            raise RuntimeError(INVALIDATED)
        with streams.as_kernels():
            recording.forget()
        self.recording, streams.graphs[self] = recording, recording.pool
        streams.used.add(recording.pool)
        streams.captures.append(len(recording.operators))

    def replay(self: Any) -> None:
        if getattr(self, "recording", None) is None:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        streams.replays += 1
        with streams.as_kernels():
            self.recording.replay()

    methods = {"capture_begin": begin, "capture_end": end, "replay": replay, "reset": lambda self: None}
    return {"__new__": new, "__init__": lambda self, *args, **kwargs: None, **methods}


@contextmanager
def graphs_on(streams: Streams) -> Iterator[None]:
    """Within it torch's classes of streams, events and graphs work, with torch's own Python around them."""

    def pool_handle() -> tuple[int, int]:
        streams.pools += 1
        return 0, streams.pools

    def set_stream(*, stream_id: int, device_index: int, device_type: int) -> None:
        if streams.capturing is not None:
            streams.capturing.refuse("another stream")
        streams.current = stream_id

    classes: list[tuple[Any, dict[str, Any]]] = [
        (torch.cuda.streams.Stream.__base__, stream_class(streams)),
        (torch.cuda.streams.Event.__base__, event_class(streams)),
        (torch.cuda.graphs.CUDAGraph.__base__, graph_class(streams)),
    ]
    names = {
        torch._C: {
            "_has_cuda": True,
            "_cuda_getCurrentStream": lambda device: (streams.current, max(0, device), 1),
            "_cuda_setStream": set_stream,
            "_host_emptyCache": lambda: None,
        },
        torch.cuda.graphs: {"_graph_pool_handle": pool_handle},
    }
    with ExitStack() as stack:
        for owner, members in [*classes, *names.items()]:
            for name, value in members.items():
                stack.enter_context(replaced(owner, name, value))
        stack.enter_context(replaced(torch.cuda.graph, "default_capture_stream", None))
        yield
