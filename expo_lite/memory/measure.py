"""How much memory a piece of work really takes at its peak: what the plan is checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from expo_lite.memory.plan import GIB


def peak_on_cpu(work: Callable[[], object]) -> int:
    """Bytes that `work` holds at its peak above what there was before, from every event of torch's CPU allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    nodes = list(record.profiler.kineto_results.experimental_event_tree())  # type: ignore[union-attr]
    changes: list[tuple[int, int]] = []
    while nodes:
        node = nodes.pop()
        if node.tag.name == "Allocation":
            changes.append((node.start_time_ns, node.extra_fields.alloc_size))  # type: ignore[union-attr]
        nodes.extend(node.children)
    held = peak = 0
    for _, change in sorted(changes, key=lambda event: event[0]):
        held += change
        peak = max(peak, held)
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
