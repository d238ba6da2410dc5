"""The worst case first: one wave and one micro-batch at the longest shapes, before step 1, and thrown away.

What runs out of memory does so in the first minute and not after 120 steps, and the time of a step can be told.
Nothing of it stays: no random number is drawn, and the gradients are dropped.
"""

from __future__ import annotations

import time
from contextlib import suppress

import torch

from expo_lite.config import Config
from expo_lite.memory.budget import BudgetedPlan
from expo_lite.memory.oom import free_memory
from expo_lite.memory.speed import Pace, forecast
from expo_lite.sampler import Sampler, SampleRequest
from expo_lite.types import TrainingSequence
from expo_lite.updater import Updater

DECODED = 4  # tokens; the cache has its whole length from the first one on


class _Enough(Exception):
    """Ends a wave after a few tokens."""


def rehearse(config: Config, sampler: Sampler, updater: Updater, optimizer_bytes: int) -> Pace:
    """Sample and train at the longest shapes that the run can meet, and take the time.

    `optimizer_bytes` are held meanwhile, as the optimizer will from its first step on. Where memory runs out, sizes
    are halved as in any step. Raises MemoryBudgetError, naming the setting, if a single sequence does not fit.
    """
    averages = torch.empty(optimizer_bytes, dtype=torch.uint8, device=updater.policy.device)
    pace = Pace(seconds_per_decoded_token(config, sampler), seconds_per_trained_token(config, updater))
    del averages
    free_memory()
    return pace


def expected(config: Config, planned: BudgetedPlan, pace: Pace) -> str:
    """What the pace means for a step and for the run, in words; no completion is longer, so it is rather too much."""
    seconds = forecast(config, planned, pace)
    hours = config.steps * seconds.step / 3600
    run = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    parts = f"{seconds.generate:.1f} s generating and {seconds.train:.1f} s training"
    return f"the longest shapes fit; at most about {parts} per step, {run} for {config.steps} steps."


def seconds_per_decoded_token(config: Config, sampler: Sampler) -> float:
    """Begin one wave of the longest prompts; the time of one more token for all of its rollouts."""
    rollout = config.rollout
    each = min(rollout.group_size, config.explanation.samples, config.evaluation.samples)
    prompt = [sampler.policy.pad_id] * rollout.max_prompt_tokens
    alive = sampler.units.rollouts_alive
    sizes = [min(each, alive - first) for first in range(0, alive, each)]
    requests = [SampleRequest(prompt, size, ("rehearsal", row)) for row, size in enumerate(sizes)]
    times: dict[int, float] = {}

    def watch(stream: tuple[object, ...], t: int, token: int) -> None:
        times[t] = time.perf_counter()
        if t == DECODED:
            raise _Enough

    with suppress(_Enough):
        sampler.sample(requests, rollout.max_new_tokens, watch=watch)
    first, last = min(1, max(times)), max(times)  # the very first one took the prompts as well
    return (times[last] - times[first]) / max(1, last - first)


def seconds_per_trained_token(config: Config, updater: Updater) -> float:
    """Train on one full micro-batch of the longest sequences, without a step; seconds per token."""
    rollout = config.rollout
    pad = updater.policy.pad_id
    prompt, completion = [pad] * rollout.max_prompt_tokens, [pad] * rollout.max_new_tokens
    longest = TrainingSequence(prompt, completion, 1.0, 1e-6, 0.0, [0.0] * len(completion))
    in_a_step = rollout.prompts_per_step * (rollout.group_size + config.explanation.samples)
    rows = min(in_a_step, max(1, updater.units.micro_batch_tokens // longest.length))
    start = time.perf_counter()
    for sums in updater.in_micro_batches([longest] * rows, updater.accumulate_gradients):
        updater.read(sums["entropy"])  # waits for the device
    updater.optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - start) / (rows * longest.length)
