"""Tensors that belong to the made-up card: where each one lives, what mixes devices, and what makes the host wait.

A tensor's storage carries the mark; its numbers stay in the computer's memory and are computed by the CPU's kernels.
One dispatch mode sees every operator below autograd: Python and C++ code, checkpointing and backward alike.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_unflatten

from support.card import Driver, driver_of, replaced

CARD = torch.device("cuda", 0)
HOST = torch.device("cpu")
WAITING = {  # operators whose result the host has to see
    "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_unique2", "item",
    "repeat_interleave",
}  # fmt: skip
CROSSING = {
    "copy_",
    "_to_copy",
    "set_",
    "_pin_memory",
    "is_pinned",
    "detach",
    "lift_fresh",
}  # mixing devices is their job
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_REAL = {
    name: getattr(Tensor, name) for name in ("device", "to", "cpu", "cuda", "numpy", "tolist", "is_cuda", "is_cpu")
}
_here = threading.local()
_device_constructors()  # `with torch.device(...)` remembers torch's own factories from the first time on


def on_card(tensor: Tensor) -> bool:
    """Whether a tensor belongs to the card."""
    try:
        return getattr(tensor.untyped_storage(), "on_card", False)
    except (NotImplementedError, RuntimeError):  # without storage
        return False


def device_of(tensor: Tensor) -> torch.device:
    """The device that a tensor says it is on; kernels, which run within an operator, see where it really is."""
    if not getattr(_here, "in_operator", False) and on_card(tensor):
        return CARD
    return _REAL["device"].__get__(tensor)


def wanted_device(value: Any) -> torch.device | None:
    """The device that an argument names, with its index; None where it names none.

    Raises RuntimeError for a card that is not there.
    """
    if value is None or isinstance(value, (Tensor, torch.dtype, bool)):
        return None
    device = torch.device(value)
    if device.type == "cuda" and device.index not in (None, 0):
        raise RuntimeError("CUDA error: invalid device ordinal")
    return CARD if device.type == "cuda" else device


class Operators(TorchDispatchMode):
    """Every operator as the card would take it."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.partition("::")[2]
        target = wanted_device(kwargs.get("device"))
        if target == HOST and torch._C._current_graph_task_id() != -1:
            target = CARD  # autograd's own C++ makes zeros where it believes that its tensors are
        if target == CARD:
            torch.cuda.init()
            kwargs["device"] = HOST
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if on_card(tensor)]
        theirs = [tensor for tensor in tensors if not on_card(tensor) and _REAL["device"].__get__(tensor) == HOST]
        if (ours or target == CARD) and any(isinstance(leaf, torch.Generator) for leaf in leaves):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if name in ("_to_copy", "copy_") and theirs and (target == CARD or on_card(args[0])):
            self.driver.streams.meets(name, waits=False, hands_over=True)
        if ours:
            self.count_waits(name, ours, theirs, args, target)
            if theirs:
                require_one_device(name, ours, theirs)
            if name in INDEXING:
                require_the_indexed_ones_device(name, args)
        _here.in_operator = True
        try:
            args, kwargs = tree_unflatten(leaves, spec)
            result = func(*args, **kwargs)
        finally:
            _here.in_operator = False
        if (target == CARD) if target is not None else bool(ours) and name != "_local_scalar_dense":
            for tensor in tree_flatten(result)[0]:
                if isinstance(tensor, Tensor) and not any(tensor is other for other in theirs):  # copy_ into the host's
                    self.put_on_card(tensor)
        if self.driver.streams.capturing is not None and (ours or target == CARD):
            self.driver.streams.capturing.add(func, args, kwargs, result)
        return result

    def count_waits(
        self, name: str, ours: list[Tensor], theirs: list[Tensor], args: Any, target: torch.device | None
    ) -> None:
        """Note where the host waits: it wants to see a value, or a copy goes off the card."""
        off_card = name == "_to_copy" and target == HOST and bool(ours)
        off_card = off_card or (name == "copy_" and not on_card(args[0]))
        by_truth = name in INDEXING and any(t is not None and t.dtype == torch.bool for t in args[1])
        by_host_index = name in INDEXING and any(t is not None and not on_card(t) for t in args[1])
        if name in WAITING or off_card or by_truth or by_host_index:
            self.driver.waits[name] += 1
            self.driver.streams.meets(name, waits=True, hands_over=False)

    def put_on_card(self, tensor: Tensor) -> None:
        """Mark a new tensor's storage as the card's, and count its bytes while it lives."""
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return
        if getattr(storage, "on_card", False):
            return
        size = storage.nbytes()
        self.driver.allocate(size)
        storage.on_card = True  # type: ignore[attr-defined]
        weakref.finalize(storage, self.driver.free, size)


def require_one_device(name: str, ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Raises RuntimeError where tensors of both devices meet. A number (no dimensions) may come from the host."""
    if name in CROSSING or all(tensor.dim() == 0 for tensor in theirs) or name in INDEXING:
        return
    raise RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({name}, "
        f"on the CPU {[tuple(tensor.shape) for tensor in theirs]})"
    )


def require_the_indexed_ones_device(name: str, args: Any) -> None:
    """Raises RuntimeError for an index on the card into a host tensor, and for host values into the card's."""
    indices = [index for index in args[1] if index is not None]
    if not on_card(args[0]) and any(on_card(index) for index in indices):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    values = args[2] if len(args) > 2 else None
    if isinstance(values, Tensor) and values.dim() and on_card(values) != on_card(args[0]):
        raise RuntimeError(f"aten::{name}: values are on another device than the tensor that they are put into")


@contextmanager
def as_kernels() -> Iterator[None]:
    """Within it operators are what the card computes by itself: nobody watches them."""
    _here.in_operator = True
    try:
        with torch.no_grad(), _disable_current_modes():
            yield
    finally:
        _here.in_operator = False


def moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to`, between the computer and the card."""
    wanted = {"device": None, "dtype": None, "non_blocking": False, "copy": False, "memory_format": None}
    names = list(wanted)
    first = args[0] if args else None
    if isinstance(first, Tensor):
        wanted.update(device=first.device, dtype=first.dtype)
        names, args = names[2:], args[1:]
    elif isinstance(first, torch.dtype):
        names = names[1:]
    wanted.update(zip(names, args, strict=False), **kwargs)
    target = wanted_device(wanted["device"])
    if target not in (CARD, HOST) or getattr(_here, "in_operator", False):
        return _REAL["to"](tensor, *args, **kwargs) if first is not None or kwargs else tensor
    here = (target == CARD) == on_card(tensor) and _REAL["device"].__get__(tensor) == HOST
    if here and wanted["dtype"] in (None, tensor.dtype) and not wanted["copy"] and wanted["memory_format"] is None:
        return tensor
    return torch.ops.aten._to_copy(
        tensor, dtype=wanted["dtype"], device=target, non_blocking=wanted["non_blocking"],
        memory_format=wanted["memory_format"],
    )  # fmt: skip


def attributes(driver: Driver) -> dict[str, Any]:
    """What a tensor's attributes and methods become."""

    def numpy(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if on_card(tensor):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                "first."
            )
        return _REAL["numpy"](tensor, *args, **kwargs)

    def tolist(tensor: Tensor) -> Any:
        if on_card(tensor):
            driver.waits["tolist"] += 1
            driver.streams.meets("tolist", waits=True, hands_over=False)
        return _REAL["tolist"](tensor)

    return {
        "device": property(device_of),
        "is_cuda": property(lambda tensor: device_of(tensor).type == "cuda"),
        "is_cpu": property(lambda tensor: device_of(tensor).type == "cpu"),
        "get_device": lambda tensor: 0 if device_of(tensor) == CARD else _REAL["get_device"](tensor),
        "to": moved,
        "cpu": lambda tensor, **kwargs: moved(tensor, "cpu"),
        "cuda": lambda tensor, device=None, **kwargs: moved(tensor, "cuda" if device is None else device),
        "numpy": numpy,
        "tolist": tolist,
    }


@contextmanager
def card(name: str) -> Iterator[Driver]:
    """Within it this process has a GPU, one of `support.card.CARDS`, in every thread."""
    with driver_of(name) as driver, ExitStack() as stack:
        driver.streams.as_kernels = as_kernels
        for attribute, value in attributes(driver).items():
            stack.enter_context(replaced(Tensor, attribute, value))
        for factory in ("tensor", "as_tensor"):  # they copy to the device below every dispatch mode
            stack.enter_context(replaced(torch, factory, made_on_host(getattr(torch, factory))))
        run_thread = threading.Thread.run

        def run(thread: threading.Thread) -> None:
            with Operators(driver):
                run_thread(thread)

        stack.enter_context(replaced(threading.Thread, "run", run))
        stack.enter_context(replaced(torch.nn.functional, "scaled_dot_product_attention", attention_on(driver)))
        stack.enter_context(Operators(driver))
        yield driver


def made_on_host(factory: Any) -> Any:
    """The factory, with its tensor made in the computer's memory and then moved."""

    def make(data: Any, *args: Any, **kwargs: Any) -> Tensor:
        device = kwargs.pop("device", None)
        made = factory(data, *args, **kwargs)
        return made if device is None else moved(made, device)

    return make


def attention_on(driver: Driver) -> Any:
    """Attention that notes the kernel which torch 2.13 would choose on the card (aten/src/ATen/native/transformers)."""
    compute = torch.nn.functional.scaled_dot_product_attention

    def attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        if on_card(query):
            grouped = kwargs.get("enable_gqa", False) and query.shape[1] != key.shape[1]
            half = query.dtype in (torch.float16, torch.bfloat16)
            if attn_mask is None and half and driver.card.capability >= (8, 0):
                kernel = "flash"
            elif not grouped:
                kernel = "efficient"
            else:  # all scores at once, in float32
                kernel = "math"
                scores = int(15.5 * query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2])
                driver.allocate(scores)
                driver.free(scores)
            driver.attention[kernel] += 1
        return compute(query, key, value, attn_mask, *args, **kwargs)

    return attention
