"""Where a run does not fit: the settings with which it would, each of them tried before it is named."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from math import ceil
from typing import Any

from expo_lite.config.dotted import replaced, value_of
from expo_lite.config.messages import as_text
from expo_lite.config.settings import Config
from expo_lite.core.errors import MemoryBudgetError
from expo_lite.memory.budget import BudgetedPlan, largest, replanned
from expo_lite.memory.plan import GIB, USABLE_SHARE
from expo_lite.memory.shapes import KNOWN

Changes = dict[str, Any]  # new values by dotted name
THRIFTY: Changes = {  # the values that take least
    "memory.rollouts_alive": None,
    "memory.micro_batch_tokens": None,
    "memory.logprob_chunk": None,
    "policy.gradient_checkpointing": True,
    "optimizer.name": "adamw_8bit",
    "policy.quantization": "nf4",
}
LEAST = {"rollout.max_new_tokens": 64, "rollout.max_prompt_tokens": 32, "policy.lora_rank": 4}  # to be of use


def require_fit(config: Config, planned: BudgetedPlan) -> None:
    """Raises MemoryBudgetError that names the settings to change, where the plan exceeds the budget."""
    if planned.fits:
        return
    usable = f"{planned.limit / GIB:.1f} of {planned.budget_gib:g} GiB are usable"
    need = f"{planned.plan.peak / GIB:.1f} GiB are needed, {usable}"
    choices = "; or with ".join(map(as_settings, remedies(config, planned)))
    raise MemoryBudgetError(f"memory.budget_gib: {planned.shape.name} does not fit: {need}; it fits with {choices}")


def remedies(config: Config, planned: BudgetedPlan) -> list[Changes]:
    """Changes with any of which the run fits, as few settings in each as suffice; else another model or more memory.

    A length is cut to less than half only where nothing else helps, and then beside everything else.
    """

    def fits(changes: Changes) -> bool:
        return replanned(planned, replaced(config, changes)).fits

    def with_a_length(changes: Changes, length: str, least: int) -> list[Changes]:
        """The changes and the largest value of a length that fits, if its least one does."""
        if not fits({**changes, length: least}):
            return []
        more = largest(lambda n: fits({**changes, length: least + n}), value_of(config, length) - least)
        return [{**changes, length: least + more}]

    thrifty = {name: value for name, value in THRIFTY.items() if value_of(config, name) != value}
    fixed = {"policy.lora_rank"} if config.policy.adapter else set()
    now = {name: value_of(config, name) for name in LEAST if name not in fixed}
    halves = {name: max(least, ceil(now[name] / 2)) for name, least in LEAST.items() if now.get(name, 0) > least}
    for size in range(len(thrifty) + 2):
        found = [changes for changes in subsets(thrifty, size) if fits(changes)]
        for changes in subsets(thrifty, size - 1):
            found += [longest for half in halves.items() for longest in with_a_length(changes, *half)]
        if found:
            return found
    shorter = [longest for name in halves for longest in with_a_length(thrifty, name, LEAST[name])]
    return shorter or [*smaller_model(config, thrifty, planned), more_memory(config, thrifty, planned)]


def subsets(changes: Changes, size: int) -> list[Changes]:
    """All choices of so many of the changes."""
    return [dict(some) for some in combinations(changes.items(), size)] if size >= 0 else []


def smaller_model(config: Config, thrifty: Changes, planned: BudgetedPlan) -> list[Changes]:
    """The largest common model that fits, with the present settings or with thrifty ones; none where none does."""
    if config.policy.adapter:  # it belongs to its model
        return []
    for changes in ({}, thrifty):
        for shape in sorted(KNOWN.values(), key=lambda shape: -shape.linear_parameters):
            if replanned(dataclasses.replace(planned, shape=shape), replaced(config, changes)).fits:
                return [{**changes, "policy.model": shape.name}]
    return []


def more_memory(config: Config, thrifty: Changes, planned: BudgetedPlan) -> Changes:
    """The budget that the run needs, with thrifty settings where it is lower with them."""
    with_them = replanned(planned, replaced(config, thrifty), 0.0)
    changes, peak = min(({}, planned.plan.peak), (thrifty, with_them.plan.peak), key=lambda pair: pair[1])
    return {**changes, "memory.budget_gib": ceil(10 * peak / USABLE_SHARE / GIB) / 10}


def as_settings(changes: Changes) -> str:
    """The changes as flags and files have them: "policy.gradient_checkpointing true and rollout.max_new_tokens 411"."""
    return " and ".join(f"{name} {as_text(value)}" for name, value in changes.items())
