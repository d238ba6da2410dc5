"""A run on a named card: its plan and its forecast, for `plan`, `study` and the app; what a larger card is for."""

from __future__ import annotations

from dataclasses import dataclass

from expo_lite.config.dotted import replaced
from expo_lite.config.presets import preset_for
from expo_lite.config.settings import Config
from expo_lite.memory.budget import BudgetedPlan, plan_on, replanned
from expo_lite.memory.cards import CARDS, place_of
from expo_lite.memory.forecast import Forecast, HeldOut, forecast, waves_per_step, writing_seconds
from expo_lite.memory.pace import pace_of
from expo_lite.memory.shapes import ModelShape
from expo_lite.problems.held_out_counts import held_out_counts

SPARE = 1.1  # a card with less than this many times the budget counts as used


@dataclass(frozen=True)
class OnCard:
    """What a run takes on one card."""

    card: str
    planned: BudgetedPlan
    forecast: Forecast


def forecast_on(config: Config, card: str, shape: ModelShape | None = None) -> OnCard:
    """How long the whole run takes on `card`, a key of CARDS; nothing is loaded. Raises ConfigError."""
    planned = plan_on(config, place_of(config, card), shape)
    pace = pace_of(CARDS[card], planned.shape, planned.workload)
    found = forecast(config, planned.units.rollouts_alive, pace, HeldOut(*held_out_counts(config.data)))
    return OnCard(card, planned, found)


def answering_on(config: Config, card: str, problems: int, samples: int) -> float:
    """Seconds to answer so many test problems of each level so many times, on `card`. Raises ConfigError."""
    planned = plan_on(config, place_of(config, card))
    _, test = held_out_counts(replaced(config, {"data.test_problems": problems}).data)
    pace = pace_of(CARDS[card], planned.shape, planned.workload)
    return writing_seconds(config, planned.units.rollouts_alive, pace, test * samples)


def room_left(config: Config, planned: BudgetedPlan, card_gib: float) -> str:
    """What a card with more memory than `memory.budget_gib` could do with the rest; nothing where it has no more."""
    budget = config.memory.budget_gib
    if budget is None or card_gib < SPARE * budget:
        return ""
    larger = replanned(planned, config, card_gib)
    now, then = (waves_per_step(config, plan.units.rollouts_alive) for plan in (planned, larger))
    whole = int(10 * card_gib) / 10
    spare = f"The GPU has {whole:g} GiB, and memory.budget_gib {budget:g} leaves the rest unused"
    if then < now:
        return (
            f"{spare}: with memory.budget_gib {whole:g}, {larger.units.rollouts_alive} rollouts are decoded at "
            f"once instead of {planned.units.rollouts_alive}, a step in {then} waves instead of {now}."
        )
    preset = preset_for(card_gib, above=budget)
    return (
        f"{spare}: a larger one would not be faster, for a step's rollouts and explanations are decoded in {now} waves "
        "either way; more rollout.prompts_per_step or a longer rollout.max_new_tokens would use it"
        + (f", as the preset {preset} does." if preset else ".")
    )
