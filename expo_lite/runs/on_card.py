"""A run on a named card: its plan and its forecast, for `plan`, `study` and the app; what a larger card is for."""

from __future__ import annotations

from dataclasses import dataclass

from expo_lite.config.dotted import replaced, value_of
from expo_lite.config.presets import preset_for
from expo_lite.config.settings import Config
from expo_lite.memory.budget import BudgetedPlan, most_at_once, plan_on, replanned
from expo_lite.memory.cards import CARDS, place_of
from expo_lite.memory.forecast import Forecast, HeldOut, forecast, in_words, writing_seconds
from expo_lite.memory.pace import Pace, pace_of
from expo_lite.memory.shapes import ModelShape
from expo_lite.problems.held_out_counts import held_out_counts

USES = ("rollout.prompts_per_step", "rollout.max_new_tokens")
"""What spare memory is good for."""
MOST_TIMES = 8
SPARE = 1.1  # a card with less than this many times the budget counts as used


@dataclass(frozen=True)
class OnCard:
    """What a run takes on one card."""

    card: str
    planned: BudgetedPlan
    pace: Pace
    forecast: Forecast


def forecast_on(config: Config, card: str, shape: ModelShape | None = None) -> OnCard:
    """How long the whole run takes on `card`, a key of CARDS; nothing is loaded. Raises ConfigError."""
    planned = plan_on(config, place_of(config, card), shape)
    pace = pace_of(CARDS[card], planned.shape, planned.workload)
    found = forecast(config, planned.units.rollouts_alive, pace, HeldOut(*held_out_counts(config.data)))
    return OnCard(card, planned, pace, found)


def answering_on(config: Config, card: str, problems: int, samples: int) -> float:
    """Seconds to answer so many test problems of each level so many times, on `card`. Raises ConfigError."""
    planned = plan_on(config, place_of(config, card))
    _, test = held_out_counts(replaced(config, {"data.test_problems": problems}).data)
    pace = pace_of(CARDS[card], planned.shape, planned.workload)
    return writing_seconds(config, planned.units.rollouts_alive, pace, test * samples)


def room_left(config: Config, planned: BudgetedPlan, card_gib: float, pace: Pace) -> str:
    """What a card with more memory than `memory.budget_gib` could do with the rest; nothing where it has no more."""
    budget = config.memory.budget_gib
    if budget is None or card_gib < SPARE * budget:
        return ""
    larger = replanned(planned, config, card_gib)
    alive, more = planned.units.rollouts_alive, larger.units.rollouts_alive
    now, then = (forecast(config, rows, pace, HeldOut(0, 0)).generate for rows in (alive, more))
    whole = int(10 * card_gib) / 10
    spare = f"The GPU has {whole:g} GiB, and memory.budget_gib {budget:g} leaves the rest unused"
    at_once = f"{more} rollouts are decoded at once instead of {alive}"
    if more == alive:
        faster = f"no step is faster: {alive} rollouts are decoded at once either way."
    elif then < now and in_words(then) != in_words(now):
        faster = f"{at_once}, and a step writes for {in_words(then)} instead of {in_words(now)}."
    else:
        faster = f"no step is faster, though {at_once}."
    preset = preset_for(card_gib, above=budget)
    uses = [use for name in USES if (use := most_of(config, larger, name))]
    would = [f"{' or '.join(uses)}, all completions of a step still at once"] if uses else []
    would = [f"the preset {preset}", *would] if preset else would
    used = f" What would use it: {'; '.join(would)}." if would else ""
    return f"{spare}. With memory.budget_gib {whole:g}, {faster}{used}"


def most_of(config: Config, larger: BudgetedPlan, name: str) -> str:
    """The setting with the most that a step still writes all at once, each tried; nothing where that is no more.

    Doubled again and again: a round multiple is enough to go by.
    """
    start = value = value_of(config, name)
    while value < MOST_TIMES * start:
        twice = replaced(config, {name: 2 * value})
        plan = replanned(larger, twice)
        if not plan.fits or plan.units.rollouts_alive < most_at_once(twice):
            break
        value *= 2
    return f"{name} {value} instead of {start}" if value > start else ""
