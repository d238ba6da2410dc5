"""Keeping to the budget: the plan of a run on this machine, and the cap on a GPU."""

from __future__ import annotations

import torch

from expo_lite.config.settings import Config
from expo_lite.memory.budget import BudgetedPlan, budgeted_plan
from expo_lite.memory.cards import repeats_kv
from expo_lite.memory.plan import CONTEXT_BYTES, GIB
from expo_lite.memory.shapes import find_shape

CPU_BUDGET_GIB = 4.0


def plan_here(config: Config, device: torch.device) -> tuple[BudgetedPlan, float]:
    """The run's plan on `device`, and its budget in GiB: the configured one, but no more than there is."""
    on_gpu = device.type == "cuda"
    there_is = gib_of(device) if on_gpu else CPU_BUDGET_GIB
    older = on_gpu and repeats_kv(torch.cuda.get_device_capability(device))
    budget = config.memory.budget_gib or there_is
    if on_gpu:  # a "24 GB" card reports a little less than 24 GiB
        budget = min(budget, there_is)
    return budgeted_plan(config, find_shape(config.policy.model), budget, on_gpu, older), budget


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
