"""How much memory a piece of work really takes at its peak: what the plan is checked against."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from expo_lite.memory.plan import GIB


def peak_on_cpu(work: Callable[[], object]) -> int:
    """Bytes that `work` holds at its peak above what there was before, from every event of torch's CPU allocator."""
    gc.collect()  # what is garbage now should not be taken for memory that the work gave back
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    nodes = list(record.profiler.kineto_results.experimental_event_tree())  # type: ignore[union-attr]
    changes: list[tuple[int, int, int]] = []
    while nodes:
        node = nodes.pop()
        if node.tag.name == "Allocation":
            event: Any = node.extra_fields
            changes.append((node.start_time_ns, event.ptr, event.alloc_size))
        nodes.extend(node.children)
    held, peak = dict[int, int](), 0
    total = 0
    for _, address, size in sorted(changes):
        if size > 0:
            held[address] = size
            total += size
            peak = max(peak, total)
        else:
            total -= held.pop(address, 0)  # 0: it was there before
    return peak


def gpu_peak(device: torch.device) -> dict[str, float]:
    """The most that this process had reserved on a GPU since it was last asked, as a metric; nothing on the CPU."""
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    return {"peak_reserved_gib": peak / GIB}


def stored_bytes(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of a model's weights with the scales of 4-bit ones, its gradients, and the optimizer's averages."""

    def tensors() -> Iterable[Tensor | None]:
        yield from model.buffers()
        for parameter in model.parameters():
            yield from (parameter, parameter.grad)
            if state := getattr(parameter, "quant_state", None):
                yield from (state.absmax, state.code, state.state2.absmax, state.state2.code)
        for averages in optimizer.state.values():
            yield from (value for value in averages.values() if torch.is_tensor(value))

    storages = [tensor.untyped_storage() for tensor in tensors() if tensor is not None]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
