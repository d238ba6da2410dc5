"""A budget that rules: how many rollouts, training tokens and logits may be alive at once under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError
from expo_lite.memory.cards import Place, repeats_kv
from expo_lite.memory.plan import DENSE_LIMIT_BYTES, GIB, USABLE_SHARE, MemoryPlan, Units, Workload, plan_memory
from expo_lite.memory.shapes import ModelShape, find_shape

CPU_BUDGET_GIB = 4.0  # unless memory.budget_gib is set
CHUNKS = (256, 64)  # tokens of logits at once; smaller only where 256 do not fit
LARGEST_MICRO_BATCH = 2**14  # tokens, unless set by hand or a sequence is longer: room is left free for surprises


@dataclass(frozen=True)
class BudgetedPlan:
    """What a run will use under its budget. `units` and `plan` are what the run is told to keep to."""

    shape: ModelShape
    workload: Workload
    units: Units
    plan: MemoryPlan
    budget_gib: float

    @property
    def limit(self) -> int:
        """Bytes of the budget that are planned for."""
        return int(USABLE_SHARE * self.budget_gib * GIB)

    @property
    def fits(self) -> bool:
        """Whether the larger peak stays within the limit."""
        return self.plan.peak <= self.limit

    def __str__(self) -> str:
        generation, training = self.plan.generation_peak / GIB, self.plan.training_peak / GIB
        peaks = f"{generation:.2f} GiB generating and {training:.2f} training"
        return f"{peaks}, of {self.limit / GIB:.2f} usable; {self.units}"


def plan_on(config: Config, place: Place, shape: ModelShape | None = None) -> BudgetedPlan:
    """The plan of a run at a place, under the configured budget or all that there is, and never more than that.

    `shape` where the model's is known already. Raises ConfigError where neither says how many GiB there are.
    """
    there_is = place.gib if place.on_gpu else CPU_BUDGET_GIB
    budget = config.memory.budget_gib or there_is
    if budget is None:
        raise ConfigError("memory.budget_gib: say how many GiB to plan for, for instance --memory.budget-gib 24")
    if place.on_gpu:  # a "24 GB" card reports a little less than 24 GiB
        budget = min(budget, there_is or budget)
    # who asks for float16 has a card without bfloat16, and so without flash attention
    older = repeats_kv(place.capability) if place.capability else config.policy.dtype == "float16"
    return budgeted_plan(config, shape or find_shape(config.policy.model), budget, place.on_gpu, older)


def replanned(planned: BudgetedPlan, config: Config, budget_gib: float | None = None) -> BudgetedPlan:
    """The plan at the same place with other settings, or another budget."""
    workload = planned.workload
    budget = planned.budget_gib if budget_gib is None else budget_gib
    return budgeted_plan(config, planned.shape, budget, workload.on_gpu, workload.repeats_kv)


def workload_of(config: Config, shape: ModelShape, on_gpu: bool, repeats_kv: bool = False) -> Workload:
    """How the configuration uses the model; `on_gpu` decides the compute type where it is "auto".

    `repeats_kv` says that the GPU has no flash attention (memory/cards.py); in float32 none has.

    Raises ConfigError for dense weights in 16 bit, where merging loses small adapters, and with Unsloth, which samples
    from its own layers.
    """
    wide = config.policy.dtype == "float32" or (config.policy.dtype == "auto" and not on_gpu)
    small = 4 * shape.linear_parameters <= DENSE_LIMIT_BYTES
    dense = config.rollout.dense_weights
    replaced = config.policy.backend != "unsloth"
    if dense == "yes" and not replaced:
        raise ConfigError("rollout.dense_weights: Unsloth samples from its own layers (got yes); set auto or no")
    if dense == "yes" and not wide:
        raise ConfigError("rollout.dense_weights: works with policy.dtype float32 only (got yes)")
    return Workload(
        rank=config.policy.lora_rank,
        quantised=config.policy.quantization == "nf4",
        checkpointing=config.policy.gradient_checkpointing,
        optimizer=config.optimizer.name,
        value_bytes=4 if wide else 2,
        on_gpu=on_gpu,
        repeats_kv=on_gpu and (wide or repeats_kv),
        dense=dense == "yes" or (dense == "auto" and replaced and wide and small and not on_gpu),
        graphs=config.rollout.cuda_graphs == "yes" and on_gpu and replaced,
    )


def budgeted_plan(
    config: Config, shape: ModelShape, budget_gib: float, on_gpu: bool, repeats_kv: bool = False
) -> BudgetedPlan:
    """The largest units that fit the budget, unless they are set by hand; the smallest ones where none fit.

    A step with more prompts or rollouts may fill more of the budget, but never exceeds it.
    """
    workload, limit = workload_of(config, shape, on_gpu, repeats_kv), USABLE_SHARE * budget_gib * GIB
    memory, sequence = config.memory, config.sequence_tokens
    prompt, new = config.rollout.max_prompt_tokens, config.rollout.max_new_tokens
    least = Units(1, 1, prompt, new, sequence, memory.logprob_chunk or CHUNKS[-1])

    def peak(**units: int) -> MemoryPlan:
        return plan_memory(shape, workload, replace(least, **units))

    def alive(rollouts: int) -> dict[str, int]:
        return {"rollouts_alive": rollouts, "prompts_alive": prompts_alive(config, rollouts)}

    chunk = memory.logprob_chunk or next(
        (c for c in CHUNKS if peak(logprob_chunk=c).training_peak <= limit), CHUNKS[-1]
    )
    rollouts = memory.rollouts_alive or largest(
        lambda n: peak(**alive(n)).generation_peak <= limit, most_at_once(config)
    )
    tokens = memory.micro_batch_tokens or largest(
        lambda n: peak(micro_batch_tokens=n, logprob_chunk=chunk).training_peak <= limit, LARGEST_MICRO_BATCH
    )
    units = replace(least, **alive(max(1, rollouts)), micro_batch_tokens=max(sequence, tokens), logprob_chunk=chunk)
    return BudgetedPlan(shape, workload, units, plan_memory(shape, workload, units), budget_gib)


def most_at_once(config: Config) -> int:
    """The completions that a step could write together: its rollouts, or explanations of every prompt."""
    return config.rollout.prompts_per_step * max(config.rollout.group_size, config.explanation.samples)


def rollouts_per_prompt(config: Config) -> int:
    """The fewest completions that any prompt is asked for: rollouts, explanations, or those of an evaluation."""
    return min(config.rollout.group_size, config.explanation.samples, config.evaluation.samples)


def prompts_alive(config: Config, rollouts: int) -> int:
    """The most different prompts among so many consecutive completions; the first may be of a prompt begun before."""
    return min(rollouts, ceil(rollouts / rollouts_per_prompt(config)) + 1)


def lowered(config: Config, planned: BudgetedPlan) -> str:
    """What is said where a card has less memory than `memory.budget_gib`; nothing where it has as much."""
    asked = config.memory.budget_gib or 0
    there_is = planned.budget_gib
    return f"memory.budget_gib is {asked:g}, but the GPU has {there_is:.1f} GiB only." if asked > there_is else ""


def without_graphs(config: Config, planned: BudgetedPlan) -> str:
    """What is said where `rollout.cuda_graphs` is asked for and makes no difference; nothing elsewhere."""
    if config.rollout.cuda_graphs == "no" or planned.workload.graphs:
        return ""
    return f"rollout.cuda_graphs is ignored {'with Unsloth' if planned.workload.on_gpu else 'on a CPU'}."


def largest(fits: Callable[[int], bool], high: int) -> int:
    """The largest whole number in [1, high] for which `fits` holds, 0 if none does; `fits` must be monotone."""
    low = 1
    while low <= high:
        middle = (low + high) // 2
        if fits(middle):
            low = middle + 1
        else:
            high = middle - 1
    return high
