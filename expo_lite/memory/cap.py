"""Keeping to the budget: the plan of a run on this machine, and the cap on a GPU."""

from __future__ import annotations

import torch

from expo_lite.config.settings import Config
from expo_lite.memory.budget import BudgetedPlan, budgeted_plan
from expo_lite.memory.cards import repeats_kv
from expo_lite.memory.plan import CONTEXT_BYTES, GIB
from expo_lite.memory.remedies import require_fit
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


def apply_budget(config: Config, device: torch.device) -> BudgetedPlan:
    """Check that the run fits, and on a GPU cap the process at its budget.

    Raises MemoryBudgetError, naming the setting to change, where it does not fit.
    """
    planned, budget = plan_here(config, device)
    require_fit(config, planned, budget)
    if device.type == "cuda":
        # The cap is on what torch reserves; the context comes on top.
        share = (budget * GIB - CONTEXT_BYTES) / (gib_of(device) * GIB)
        torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
    return planned


def gib_of(device: torch.device) -> float:
    """The memory that a GPU has."""
    return torch.cuda.get_device_properties(device).total_memory / GIB
