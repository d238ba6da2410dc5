"""This machine's device: what can be planned for on it, and the cap that keeps a GPU to the budget."""

from __future__ import annotations

import torch

from expo_lite.memory.cards import Place
from expo_lite.memory.plan import CONTEXT_BYTES, GIB


def place_here(device: torch.device) -> Place:
    """What a device of this machine is."""
    if device.type != "cuda":
        return Place(on_gpu=False)
    return Place(True, gib_of(device), torch.cuda.get_device_capability(device))


def cap_memory(device: torch.device, budget_gib: float) -> None:
    """On a GPU, let this process have its budget and no more: a cap on what torch reserves, with a context on top.

    `device` with its index, as `resolve_device` gives it: torch wants one here.
    """
    if device.type == "cuda":
        share = (budget_gib * GIB - CONTEXT_BYTES) / (gib_of(device) * GIB)
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)


def gib_of(device: torch.device) -> float:
    """The memory that a GPU has."""
    return torch.cuda.get_device_properties(device).total_memory / GIB
