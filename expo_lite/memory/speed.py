"""A forecast of seconds per step: for a named card from its published bandwidth and arithmetic rate, or measured.

Decoding reads all weights and the KV cache for every token; training does a fixed number of operations per
token and parameter. How much of a card's peak a run reaches is assumed here, not measured: expect a factor of two.
The dry pass of a real run (expo_lite.rehearsal) measures both instead.
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
TOKEN_OVERHEAD_SECONDS = 0.02  # per decoded token: launching the kernels of all layers


@dataclass(frozen=True)
class Pace:
    """How fast a machine is: seconds for one more token of every rollout alive, and per token trained on."""

    decoded_token: float
    trained_token: float


@dataclass(frozen=True)
class Forecast:
    """Seconds of one step."""

    generate: float
    train: float

    @property
    def step(self) -> float:
        """Both together."""
        return self.generate + self.train


def pace_of(planned: BudgetedPlan, card: str) -> Pace:
    """The pace to expect on `card`, a key of CARDS."""
    _, bandwidth, arithmetic = CARDS[card]
    shape, units = planned.shape, planned.units
    half_full = units.prompt_tokens + units.new_tokens / 2
    cached = units.rollouts_alive * half_full * kv_bytes_per_token(shape, planned.workload)
    weights = DECODED_BYTES * shape.linear_parameters + 2 * shape.other_parameters
    operations = TRAINING_OPERATIONS * (shape.linear_parameters + shape.other_parameters)
    return Pace(
        decoded_token=(weights + cached) / (BANDWIDTH_SHARE * bandwidth * 1e9) + TOKEN_OVERHEAD_SECONDS,
        trained_token=operations / (ARITHMETIC_SHARE * arithmetic * 1e12),
    )


def forecast(config: Config, planned: BudgetedPlan, pace: Pace) -> Forecast:
    """Seconds per step, if completions are as long and prompts fail as often as assumed above."""
    rollout = config.rollout
    explained = FAILED_SHARE * config.explanation.samples if config.explanation.source == "self" else 0.0
    waves = ceil(rollout.prompts_per_step * (rollout.group_size + explained) / planned.units.rollouts_alive)
    # Mixed groups and explanations are trained on; solved and failed groups are not.
    trained = rollout.prompts_per_step * ((1 - FAILED_SHARE) * rollout.group_size + FAILED_SHARE)
    trained_tokens = trained * (rollout.max_prompt_tokens / 2 + LENGTH_SHARE * rollout.max_new_tokens)
    return Forecast(
        generate=waves * rollout.max_new_tokens * pace.decoded_token, train=trained_tokens * pace.trained_token
    )
