"""The worst case first: all rows and two micro-batches at the longest shapes, before step 1, and thrown away.

What runs out of memory does so in the first minute and not after 120 steps, and the time of a step can be told.
Nothing of it stays: no random number is drawn, and the gradients are dropped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy

import torch

from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError, MemoryBudgetError, first_line
from expo_lite.core.records import TrainingSequence
from expo_lite.memory.budget import rollouts_per_prompt
from expo_lite.memory.forecast import HeldOut, forecast, in_words
from expo_lite.memory.halving import free_memory, how_to_begin
from expo_lite.memory.pace import Pace
from expo_lite.model.non_finite import NotFiniteError, why_not_finite
from expo_lite.model.policy import Policy
from expo_lite.model.ranks import ALONE
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.training.sequence_logprobs import sequence_logprobs
from expo_lite.training.updater import Updater

DECODED = 4  # tokens that are timed
SMALL = 8  # times fewer rollouts are timed as well
TRIED = 8  # tokens that sampling and training are compared on
WRITTEN = 0.25  # of the longest completion, before the timed tokens: about what the mean token of a run looks back on


class _Enough(Exception):
    """Ends sampling after a few tokens."""


def rehearse(config: Config, sampler: Sampler, updater: Updater, optimizer_bytes: int) -> Pace:
    """Sample and train at the longest shapes that the run can meet, and take the time.

    `optimizer_bytes` are held meanwhile, as the optimizer will from its first step on. Where memory runs out, sizes
    are halved as in any step. Raises MemoryBudgetError, with what helps, if a single sequence does not fit, and
    ConfigError for a model that is not the same in sampling and in training.
    """
    averages = torch.empty(optimizer_bytes, dtype=torch.uint8, device=updater.policy.device)
    try:
        refuse_disagreement(sampler, updater)
        alive = sampler.units.rollouts_alive
        # the smaller one has two prompts, too, one of them shorter
        small = min(alive, max(math.ceil(alive / SMALL), rollouts_per_prompt(config) + 1))
        decoded = {n: seconds_per_decoded_token(config, sampler, n) for n in dict.fromkeys((alive, small))}
        pace = Pace.measured(decoded, seconds_per_trained_token(config, updater))
    except MemoryBudgetError as error:
        raise MemoryBudgetError(how_to_begin(error)) from None
    del averages
    free_memory()
    return pace


def refuse_disagreement(sampler: Sampler, updater: Updater) -> None:
    """Raises ConfigError for a model that is not the same in training and in sampling, beside rows of other lengths.

    Some families find positions out of the attention mask (OPT), or cannot read one with a row per token (BLOOM).
    """
    policy = sampler.policy
    prompts = [[0, 1, 3], list(range(min(23, policy.vocabulary)))]  # they begin alike, and part
    requests = [SampleRequest(prompt, 2, ("agreement", len(prompt))) for prompt in prompts]
    try:
        with without_end(policy):
            written = [c for of_prompt in Sampler(policy, sampler.units).sample(requests, TRIED) for c in of_prompt]
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"policy.model: models of this family cannot be sampled from here ({first_line(error)}); name another one"
        ) from error
    again = sequence_logprobs(
        [TrainingSequence(c.prompt_ids, c.completion_ids) for c in written], policy, updater.units
    )
    gaps = [
        sum(abs(a - b) for a, b in zip(c.logprobs, updater.read(logprobs), strict=True)) / TRIED
        for c, logprobs in zip(written, again, strict=True)
    ]
    padded, whole = max(gaps[:2]), max(gaps[2:])
    # In 16 bit rounding alone may come to a tenth of a nat: there only what padding adds to it counts.
    most = 1e-3 if policy.head.weight.dtype == torch.float32 else max(0.2, 5 * whole)
    if padded > most:
        raise ConfigError(
            f"policy.model: sampling and training disagree by {padded:.2g} nats a token, and rounding explains "
            f"{most:.1g}: models of this family read rows of different lengths in another way, and cannot be trained "
            "here; name another one"
        )


def expected(config: Config, alive: int, pace: Pace, held_out: HeldOut) -> str:
    """What the pace means for the scores before step 1, a step, a validation and the whole run, in words."""
    found = forecast(config, alive, pace, held_out)
    steps = "1 step" if config.steps == 1 else f"{config.steps} steps"
    return (
        f"the longest shapes fit; about {in_words(found.before.seconds)} of scores before step 1, then "
        f"{in_words(found.generate)} generating and {in_words(found.train)} training per step, "
        f"{in_words(found.validation)} per validation: {found.range_in_words} for {steps} and the final test, by how "
        "many groups fail, if completions are about as long as assumed (docs/memory.md)."
    )


def seconds_per_decoded_token(config: Config, sampler: Sampler, rollouts: int) -> float:
    """Go on with so many of the longest prompts and begun completions; the time of one more token of all."""
    written = int(WRITTEN * config.rollout.max_new_tokens)
    requests = longest_requests(config, rollouts, rollouts_per_prompt(config), written)
    sampler = copy(sampler)
    sampler.ranks = ALONE  # all of them on every rank
    times: dict[int, float] = {}

    def watch(stream: tuple[object, ...], t: int, token: int) -> None:
        times[t] = time.perf_counter()
        if t == DECODED:
            raise _Enough

    with without_end(sampler.policy), suppress(_Enough):
        sampler.sample(requests, config.rollout.max_new_tokens - written, watch=watch)
    first, last = min(1, max(times)), max(times)  # the very first one took the prompts as well
    return (times[last] - times[first]) / max(1, last - first)


def seconds_per_trained_token(config: Config, updater: Updater) -> float:
    """Train on two full micro-batches of the longest sequences, without a step, then on two groups; seconds per token.

    The first share nothing, which takes the most memory; the groups share prompts, as in a step, and give the time.
    Raises ConfigError where the base gives no finite numbers, DivergedError where the adapter does not.
    """
    rows = 2 * max(1, updater.units.micro_batch_tokens // config.sequence_tokens)
    in_a_step = config.rollout.prompts_per_step * (config.rollout.group_size + config.explanation.samples)
    group = min(config.rollout.group_size, rows)
    train_on(longest_sequences(config, min(in_a_step, rows)), updater)
    start = time.perf_counter()
    train_on(longest_sequences(config, 2 * group, group), updater)
    seconds = time.perf_counter() - start
    updater.optimizer.zero_grad(set_to_none=True)
    return seconds / (2 * group * config.sequence_tokens)


def train_on(sequences: list[TrainingSequence], updater: Updater) -> None:
    """Forward and backward passes, and the wait for them. Raises where their numbers are not finite."""
    for sums in updater.in_micro_batches(sequences, updater.accumulate_gradients):
        if not math.isfinite(updater.read(sums["entropy"])):  # reading it waits for the device
            row = sequences[0]
            raise why_not_finite(updater.policy, NotFiniteError(row.prompt_ids + row.completion_ids), updater.read)


def longest_requests(config: Config, rollouts: int, per_prompt: int, written: int = 0) -> list[SampleRequest]:
    """Requests for so many completions of the longest prompts, with `written` tokens of completion at their ends.

    Every second prompt is a token shorter: as in a run, rows differ in length, and attention takes the kernels it takes
    there.
    """
    first = range(0, rollouts, per_prompt)
    longest = config.rollout.max_prompt_tokens + written
    prompts = [numbered(row, longest - row % 2) for row in range(len(first))]
    return [
        SampleRequest(prompt, min(per_prompt, rollouts - begun), ("rehearsal", begun))
        for prompt, begun in zip(prompts, first, strict=True)
    ]


def longest_sequences(config: Config, count: int, per_prompt: int = 1) -> list[TrainingSequence]:
    """Rollouts of the longest prompts and completions, so many of a prompt, with weights too small to matter.

    What begins alike would be computed once: prompts, and completions of one prompt, part within their first tokens.
    """
    prompt, new = config.rollout.max_prompt_tokens, config.rollout.max_new_tokens
    return [
        TrainingSequence(numbered(row // per_prompt, prompt), numbered(row, new), 1.0, 1e-6, 0.0, [0.0] * new)
        for row in range(count)
    ]


@contextmanager
def without_end(policy: Policy) -> Iterator[None]:
    """Within it no token ends a completion."""
    end_ids, policy.end_ids = policy.end_ids, []
    try:
        yield
    finally:
        policy.end_ids = end_ids


def numbered(number: int, length: int) -> list[int]:
    """So many tokens that begin with a number to the base of 16: those of other numbers have little in common."""
    return ([number // 16**place % 16 for place in range(4)] + [0] * length)[:length]
