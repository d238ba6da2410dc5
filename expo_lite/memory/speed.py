"""A rough forecast of seconds per step on a named card, from its published bandwidth and arithmetic rate.

Decoding reads all weights and the KV cache for every token; training does a fixed number of operations per
token and parameter. How much of a card's peak a run reaches is assumed here, not measured: expect a factor of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from expo_lite.config import Config
from expo_lite.memory.budget import BudgetedPlan
from expo_lite.memory.plan import kv_bytes_per_token

# GiB, GB/s of memory, and 16-bit TFLOP/s with 32-bit accumulation; from the makers' data sheets.
CARDS = {
    "T4": (16, 320, 65),
    "RTX 3060 12GB": (12, 360, 25),
    "RTX 3090": (24, 936, 71),
    "RTX 4060 Ti 16GB": (16, 288, 44),
    "RTX 4070": (12, 504, 58),
    "RTX 4080": (16, 717, 97),
    "RTX 4090": (24, 1008, 165),
    "RTX 5090": (32, 1792, 209),
    "L4": (24, 300, 121),
    "A10": (24, 600, 125),
    "A100 80GB": (80, 2039, 312),
    "H100": (80, 3350, 989),
}
BANDWIDTH_SHARE, ARITHMETIC_SHARE = 0.5, 0.35  # assumed
DECODED_BYTES = 4.5  # per 4-bit parameter and token: read it, write it as 16 bit, read that
TRAINING_OPERATIONS = 6  # per parameter and token: forward, recomputed forward, backward through frozen weights
FAILED_SHARE = 0.5  # of prompts, assumed to be explained
LENGTH_SHARE = 0.6  # mean completion length, of the longest allowed
STEP_OVERHEAD_SECONDS = 0.02  # per decoded token: launching the kernels of all layers


@dataclass(frozen=True)
class Forecast:
    """Seconds of one step."""

    generate: float
    train: float

    @property
    def step(self) -> float:
        """Both together."""
        return self.generate + self.train


def forecast(config: Config, planned: BudgetedPlan, card: str) -> Forecast:
    """Seconds per step on `card`, a key of CARDS."""
    _, bandwidth, arithmetic = CARDS[card]
    shape, rollout = planned.shape, config.rollout
    explained = FAILED_SHARE * config.explanation.samples if config.explanation.source == "self" else 0.0
    completions = rollout.prompts_per_step * (rollout.group_size + explained)
    waves = ceil(completions / planned.units.rollouts_alive)
    alive = completions / waves
    tokens = LENGTH_SHARE * rollout.max_new_tokens
    cached = alive * (rollout.max_prompt_tokens + tokens / 2) * kv_bytes_per_token(shape, planned.workload)
    weights = DECODED_BYTES * shape.linear_parameters + 2 * shape.other_parameters
    token_seconds = (weights + cached) / (BANDWIDTH_SHARE * bandwidth * 1e9) + STEP_OVERHEAD_SECONDS
    # Mixed groups and explanations are trained on; solved and failed groups are not.
    trained = rollout.prompts_per_step * ((1 - FAILED_SHARE) * rollout.group_size + FAILED_SHARE)
    trained_tokens = trained * (rollout.max_prompt_tokens / 2 + tokens)
    operations = TRAINING_OPERATIONS * (shape.linear_parameters + shape.other_parameters) * trained_tokens
    return Forecast(
        generate=waves * rollout.max_new_tokens * token_seconds,
        train=operations / (ARITHMETIC_SHARE * arithmetic * 1e12),
    )
