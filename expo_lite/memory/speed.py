"""A forecast of seconds per step: for a named card from its published bandwidth and arithmetic rate, or measured.

Decoding reads all weights and the KV cache for every token; training does a fixed number of operations per
token and parameter. How much of a card's peak a run reaches is assumed here, not measured: expect a factor of two.
The dry pass of a real run (expo_lite.rehearsal) measures both instead.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from math import ceil

from expo_lite.config import Config
from expo_lite.errors import ConfigError
from expo_lite.memory.budget import BudgetedPlan
from expo_lite.memory.plan import kv_bytes_per_token

# GiB, GB/s of memory, and 16-bit TFLOP/s with 32-bit accumulation; from the makers' data sheets, but for the GiB of
# data centre cards: those are what drivers commonly report, less than the name says (error correction, firmware).
CARDS = {
    "T4": (14.6, 320, 65),
    "RTX 3060 12GB": (12, 360, 25),
    "RTX 3090": (24, 936, 71),
    "RTX 4060 Ti 16GB": (16, 288, 44),
    "RTX 4070": (12, 504, 58),
    "RTX 4080": (16, 717, 97),
    "RTX 4090": (24, 1008, 165),
    "RTX 5090": (32, 1792, 209),
    "L4": (22.0, 300, 121),
    "A10": (22.0, 600, 125),
    "A100 80GB": (79.1, 2039, 312),
    "H100": (79.1, 3350, 989),
}
WITHOUT_FLASH = {"T4"}  # cards before compute capability 8.0: attention repeats key and value heads there
BANDWIDTH_SHARE, ARITHMETIC_SHARE = 0.5, 0.35  # assumed
DECODED_BYTES = 4.5  # per 4-bit parameter and token: read it, write it as 16 bit, read that
TRAINING_OPERATIONS = 6  # per parameter and token: forward, recomputed forward, backward through frozen weights
FAILED_SHARE = 0.5  # of prompts, assumed to be explained
LENGTH_SHARE = 0.6  # mean completion length, of the longest allowed
TOKEN_OVERHEAD_SECONDS = 0.02  # per decoded token: launching the kernels of all layers


def cards() -> str:
    """The cards that a forecast is made for, with their memory."""
    return ", ".join(f"{name} ({gib:g} GiB)" for name, (gib, _, _) in CARDS.items())


def named_card(name: str) -> str:
    """The key of CARDS, written in any case. Raises ConfigError, with near ones, where there is none."""
    known = {card.lower(): card for card in CARDS}
    if name.lower() not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {known[near[0]]}? " if near else ""
        raise ConfigError(f"--card: there is no {name!r} ({hint}available: {cards()})")
    return known[name.lower()]


def budget_of(config: Config, card: str | None) -> float:
    """GiB to plan for: the configured budget, but no more than the named card has."""
    budgets = [config.memory.budget_gib, CARDS[card][0] if card else None]
    if not any(budgets):
        raise ConfigError("memory.budget_gib: say how many GiB to plan for, for instance --memory.budget-gib 24")
    return min(budget for budget in budgets if budget)


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
    dpo = config.objective.name == "dpo"
    gated = 1.0 if dpo or config.explanation.gate == "every" else FAILED_SHARE  # of prompts
    explained = gated * config.explanation.samples if config.explanation.source == "self" else 0.0
    waves = ceil(rollout.prompts_per_step * (rollout.group_size + explained) / planned.units.rollouts_alive)
    if dpo:  # a pair per prompt, and two passes without gradients, each a third of the work
        trained = rollout.prompts_per_step * 2 * (1 + 2 / 3)
    else:  # mixed groups and explanations are trained on; solved and failed groups are not
        trained = rollout.prompts_per_step * ((1 - FAILED_SHARE) * rollout.group_size + gated)
    trained_tokens = trained * (rollout.max_prompt_tokens / 2 + LENGTH_SHARE * rollout.max_new_tokens)
    return Forecast(
        generate=waves * rollout.max_new_tokens * pace.decoded_token, train=trained_tokens * pace.trained_token
    )


def hours_on(card: str, config: Config, planned: BudgetedPlan) -> str:
    """The forecast for a card, as a sentence."""
    seconds = forecast(config, planned, pace_of(planned, card))
    return (
        f"{card}: about {in_words(seconds.generate)} generating and {in_words(seconds.train)} training per step, "
        f"{in_words(config.steps * seconds.step)} for {config.steps} steps; an estimate that may be off by a factor of "
        "two."
    )


def in_words(seconds: float) -> str:
    """A duration: "0.4 s", "45 s", "12 min", "3.4 h"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
