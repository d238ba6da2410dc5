"""Keeping to the budget: the plan of a run on this machine, and the cap on a GPU."""

from __future__ import annotations

import torch

from expo_lite.config import Config
from expo_lite.errors import ConfigError
from expo_lite.memory.budget import BudgetedPlan, budgeted_plan, require_fit
from expo_lite.memory.live import LiveUnits
from expo_lite.memory.plan import GIB
from expo_lite.memory.shapes import find_shape

CPU_BUDGET_GIB = 4.0


def plan_here(config: Config, device: torch.device) -> tuple[BudgetedPlan, float]:
    """The run's plan on `device`, and its budget in GiB: the configured one, else all there is.

    Raises ConfigError where the card is smaller than the budget.
    """
    on_gpu = device.type == "cuda"
    there_is = torch.cuda.get_device_properties(device).total_memory / GIB if on_gpu else CPU_BUDGET_GIB
    budget = config.memory.budget_gib or there_is
    if on_gpu and budget > there_is * 1.05:  # a "24 GB" card reports a little less than 24 GiB
        raise ConfigError(f"memory.budget_gib: this GPU has {there_is:.1f} GiB (got {budget:g}); lower the budget")
    return budgeted_plan(config, find_shape(config.policy.model), budget, on_gpu), budget


def apply_budget(config: Config, device: torch.device) -> LiveUnits:
    """Check that the run fits, cap the process at its budget (on a GPU), and give the sizes to work with.

    Raises MemoryBudgetError, naming the setting to change, where it does not fit.
    """
    planned, budget = plan_here(config, device)
    require_fit(config, planned, budget)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, budget * GIB / total), device)
    units = planned.units
    return LiveUnits(units.rollouts_alive, units.micro_batch_tokens, units.logprob_chunk)
