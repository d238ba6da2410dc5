"""A budget that rules: how many rollouts, training tokens and logits may be alive at once under it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from expo_lite.config import Config
from expo_lite.errors import MemoryBudgetError
from expo_lite.memory.plan import (
    DENSE_LIMIT_BYTES,
    GIB,
    USABLE_SHARE,
    MemoryPlan,
    Units,
    Workload,
    largest,
    plan_memory,
)
from expo_lite.memory.shapes import ModelShape

CHUNKS = (256, 64)  # tokens of logits at once; smaller only where 256 do not fit
LARGEST_MICRO_BATCH = 2**14  # tokens, unless set by hand or a sequence is longer: room is left free for surprises


@dataclass(frozen=True)
class BudgetedPlan:
    """What a run will use under its budget. `units` and `plan` are what the run is told to keep to."""

    shape: ModelShape
    workload: Workload
    units: Units
    plan: MemoryPlan
    limit: int  # usable bytes

    @property
    def fits(self) -> bool:
        """Whether the larger peak stays within the limit."""
        return self.plan.peak <= self.limit

    def __str__(self) -> str:
        generation, training = self.plan.generation_peak / GIB, self.plan.training_peak / GIB
        peaks = f"{generation:.2f} GiB generating and {training:.2f} training"
        return f"{peaks}, of {self.limit / GIB:.2f} usable; {self.units}"


def workload_of(config: Config, shape: ModelShape, on_gpu: bool) -> Workload:
    """How the configuration uses the model; `on_gpu` decides the compute type where it is "auto"."""
    wide = config.policy.dtype == "float32" or (config.policy.dtype == "auto" and not on_gpu)
    small = config.policy.quantization == "nf4" and 4 * shape.linear_parameters <= DENSE_LIMIT_BYTES
    dense = config.rollout.dense_weights
    return Workload(
        rank=config.policy.lora_rank,
        quantised=config.policy.quantization == "nf4",
        checkpointing=config.policy.gradient_checkpointing,
        optimizer=config.optimizer.name,
        value_bytes=4 if wide else 2,
        on_gpu=on_gpu,
        dense=dense == "yes" or (dense == "auto" and wide and small and not on_gpu),
    )


def budgeted_plan(config: Config, shape: ModelShape, budget_gib: float, on_gpu: bool) -> BudgetedPlan:
    """The largest units that fit the budget, unless they are set by hand; the smallest ones where none fit.

    Nothing here depends on how many prompts a step has or how many of them fail, so neither does the peak.
    """
    workload, limit = workload_of(config, shape, on_gpu), int(USABLE_SHARE * budget_gib * GIB)
    memory, sequence = config.memory, config.sequence_tokens
    wanted = config.rollout.prompts_per_step * max(config.rollout.group_size, config.explanation.samples)
    prompt, new = config.rollout.max_prompt_tokens, config.rollout.max_new_tokens
    least = Units(1, prompt, new, sequence, memory.logprob_chunk or CHUNKS[-1])

    def peak(**units: int) -> MemoryPlan:
        return plan_memory(shape, workload, replace(least, **units))

    chunk = memory.logprob_chunk or next(
        (c for c in CHUNKS if peak(logprob_chunk=c).training_peak <= limit), CHUNKS[-1]
    )
    rollouts = memory.rollouts_alive or largest(lambda n: peak(rollouts_alive=n).generation_peak <= limit, wanted)
    tokens = memory.micro_batch_tokens or largest(
        lambda n: peak(micro_batch_tokens=n, logprob_chunk=chunk).training_peak <= limit, LARGEST_MICRO_BATCH
    )
    units = Units(max(1, rollouts), prompt, new, max(sequence, tokens), chunk)
    return BudgetedPlan(shape, workload, units, plan_memory(shape, workload, units), limit)


def longest_completion_that_fits(config: Config, shape: ModelShape, budget_gib: float, on_gpu: bool) -> int:
    """The largest `rollout.max_new_tokens` with which one rollout and one training sequence fit; 0 if none does."""

    def fits(tokens: int) -> bool:
        return budgeted_plan(with_completion(config, tokens), shape, budget_gib, on_gpu).fits

    return largest(fits, config.rollout.max_new_tokens)


def with_completion(config: Config, tokens: int) -> Config:
    """The configuration with another `rollout.max_new_tokens`."""
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"max_new_tokens": tokens})})


def with_checkpointing(config: Config) -> Config:
    """The configuration with `policy.gradient_checkpointing`."""
    return config.model_copy(update={"policy": config.policy.model_copy(update={"gradient_checkpointing": True})})


def what_fits(config: Config, planned: BudgetedPlan, budget_gib: float) -> list[str]:
    """The settings with which the run would fit, the one that costs least first; none where the model is too large."""

    def longest(config: Config) -> int:
        return longest_completion_that_fits(config, planned.shape, budget_gib, planned.workload.on_gpu)

    options = []
    if not planned.workload.checkpointing and (tokens := longest(with_checkpointing(config))):
        shorter = "" if tokens == config.rollout.max_new_tokens else f" and rollout.max_new_tokens to at most {tokens}"
        options.append(f"set policy.gradient_checkpointing to true{shorter}")
    if tokens := longest(config):
        options.append(f"the largest rollout.max_new_tokens that fits is {tokens}")
    return options


def require_fit(config: Config, planned: BudgetedPlan, budget_gib: float) -> None:
    """Raises MemoryBudgetError that names the setting to change, where the plan exceeds the budget."""
    if planned.fits:
        return
    by_hand = [
        name
        for name in ("rollouts_alive", "micro_batch_tokens", "logprob_chunk")
        if getattr(config.memory, name) is not None
    ]
    need = f"{planned.plan.peak / GIB:.1f} GiB are needed, {planned.limit / GIB:.1f} of {budget_gib:g} GiB are usable"
    if by_hand:
        advice = f"leave {' and '.join(f'memory.{name}' for name in by_hand)} to the program, or set it lower"
    else:
        advice = "; without it ".join(what_fits(config, planned, budget_gib)) or "choose a smaller policy.model"
    raise MemoryBudgetError(f"memory.budget_gib: {planned.shape.name} does not fit: {need}; {advice}")
