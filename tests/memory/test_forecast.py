"""The forecast of a whole run: each part by hand, and what the lengths of completions are assumed to be."""

from __future__ import annotations

import random
from math import log
from typing import Any

import pytest
import torch
from support.card import driver_of
from support.tiny_models import tiny_config

from expo_lite.config.dotted import replaced, value_of
from expo_lite.config.read import read_request
from expo_lite.config.settings import Config, DataConfig
from expo_lite.memory.budget import plan_on
from expo_lite.memory.cap import gib_of, place_here
from expo_lite.memory.cards import CARDS, place_of
from expo_lite.memory.forecast import (
    OCCUPIED,
    SPREAD,
    TYPICAL_LENGTH,
    Forecast,
    HeldOut,
    forecast,
    in_words,
    longest_share,
    trained_tokens_per_step,
)
from expo_lite.memory.pace import Pace
from expo_lite.model.sampler import REFILL_BELOW
from expo_lite.problems import load_problems
from expo_lite.problems.held_out_counts import held_out_counts
from expo_lite.problems.hub import KNOWN_SETS
from expo_lite.runs.on_card import forecast_on, room_left

PACE = Pace.measured({32: 0.1}, 0.001)


def run(**settings: Any) -> Config:
    """Ten steps of 4 prompts with 8 rollouts of 1,000 tokens; prompts of 100."""
    values = {"steps": 10, "rollout__prompts_per_step": 4, "rollout__group_size": 8, "rollout__max_new_tokens": 1000}
    values |= {"rollout__max_prompt_tokens": 100, "evaluation__every": 4, "evaluation__samples": 2}
    return tiny_config(**(values | settings))


def seconds(config: Config, alive: int = 32) -> Forecast:
    return forecast(config, alive, PACE, HeldOut(validation=16, test=48))


def last(rollouts: float) -> float:
    """Those that no others follow: a tenth of a second for each of the longest's tokens."""
    return 0.1 * 1000 * longest_share(rollouts)


def following(completions: float, alive: int = 32) -> float:
    """Of those that begin where others have ended, seven eighths of the rows are being written at a time."""
    return 0.1 * 1000 * longest_share(1) * completions / (7 / 8 * alive)


def test_every_part_by_hand() -> None:
    found = seconds(run())
    explained = 0.4 * 4 * 4  # failed share, prompts, samples
    assert found.before.seconds == pytest.approx(last(32) + following(64) + last(32))  # 32 and 96 answers
    assert found.rollouts.seconds == pytest.approx(10 * last(32))
    assert found.explanations.seconds == pytest.approx(10 * last(explained))
    tokens = 4 * (0.4 * 8 + 0.4) * (0.4 * 100 + longest_share(1) * 1000)
    assert found.training.seconds == pytest.approx(10 * 0.001 * tokens)
    assert found.validations == 3  # after 4, 8 and 10 steps
    assert found.scores.seconds == pytest.approx(3 * last(32) + following(64) + last(32))
    assert found.total == pytest.approx(sum(part.seconds for part in found.parts))
    assert found.generate + found.train == pytest.approx(
        (found.rollouts.seconds + found.explanations.seconds + found.training.seconds) / 10
    )


def test_more_completions_than_fit_at_once() -> None:
    found = seconds(run(), alive=24)
    assert found.rollouts.seconds == pytest.approx(10 * (following(8, 24) + last(24)))
    assert found.rollouts.how == "10 steps of 32 completions, 24 at once"
    assert found.explanations.how == "10 steps of 6 completions, all at once"


def test_how_many_rows_are_being_written() -> None:
    """From all of them down to the share below which others begin."""
    assert (1 + REFILL_BELOW) / 2 == OCCUPIED


def test_others_that_begin_where_some_have_ended() -> None:
    """Against a simulation of 40 rows, looked at after each token, for 1,600 completions of the assumed lengths."""
    draw, limit = random.Random(0), 1000

    def length() -> int:
        return min(limit, max(1, round(limit * draw.lognormvariate(log(TYPICAL_LENGTH), SPREAD))))

    rows, waiting, tokens = [length() for _ in range(40)], 1560, 0
    while any(rows):
        rows, tokens = [max(0, left - 1) for left in rows], tokens + 1
        if waiting and sum(map(bool, rows)) <= 0.75 * 40:
            rows = [left or (length() if (waiting := waiting - 1) >= 0 else 0) for left in rows]
            waiting = max(0, waiting)
    config = run(rollout__prompts_per_step=200)
    expected = seconds(config, alive=40).rollouts.seconds / 10 / 0.1
    assert tokens == pytest.approx(expected, rel=0.05)


def test_the_expected_longest_of_so_many() -> None:
    """Against a simulation of the assumed lengths; never beyond the limit."""
    draw = random.Random(0)

    def longest(rollouts: int) -> float:
        return max(min(1.0, draw.lognormvariate(log(TYPICAL_LENGTH), SPREAD)) for _ in range(rollouts))

    for rollouts in (1, 4, 16, 64):
        simulated = sum(longest(rollouts) for _ in range(3000)) / 3000
        assert longest_share(rollouts) == pytest.approx(simulated, rel=0.02), rollouts
    assert longest_share(10_000) == pytest.approx(1.0)


LENGTH = 0.4 * 100 + longest_share(1) * 1000


@pytest.mark.parametrize(
    ("settings", "sequences"),
    [
        ({"explanation__source": "none"}, 0.4 * 8),
        ({"explanation__source": "expert"}, 0.4 * 8 + 0.4),
        ({"explanation__gate": "every"}, 0.4 * 8 + 1),
        ({"explanation__selection": "all"}, 0.4 * 8 + 0.4 * 4),
        ({"kl__coef": 0.1}, 8 * 4 / 3 + 0.4),
        ({"objective__name": "dpo"}, 0.8 * 2 * 5 / 3),
        ({"objective__updates_per_batch": 2}, 2 * (0.4 * 8 + 0.4)),
    ],
)
def test_what_is_trained_on(settings: dict[str, Any], sequences: float) -> None:
    assert trained_tokens_per_step(run(**settings)) == pytest.approx(4 * sequences * LENGTH)


def test_no_explanations_no_time_for_them() -> None:
    for source in ("none", "expert"):
        found = seconds(run(explanation__source=source))
        assert (found.explanations.seconds, found.explanations.how) == (0, "10 steps of none")


@pytest.mark.parametrize("source", ["EleutherAI/hendrycks_math", "openai/gsm8k", "HuggingFaceH4/MATH-500"])
@pytest.mark.parametrize("wanted", [8, 50, 1000])
def test_held_out_problems_are_counted_as_they_are_held_out(source: str, wanted: int) -> None:
    """Against the real split, on rows in the numbers that each level has."""
    training = "EleutherAI/hendrycks_math" if source == "HuggingFaceH4/MATH-500" else source
    test = {"test_source": source} if training != source else {}
    config = DataConfig(source=training, **test, validation_problems=wanted, test_problems=wanted)

    def rows(hub_id: str, subset: str | None, split: str) -> list[dict[str, Any]]:
        known = KNOWN_SETS[hub_id]
        if subset not in (None, "algebra", "main"):
            return []  # all of MATH in one of its subjects
        sizes = known.sizes if split == "train" else known.test_sizes
        return [
            {known.columns["question"]: f"{split} {hub_id} {level} {n}", "answer": "#### 1", "level": f"Level {level}"}
            | {"solution": "$\\boxed{1}$"}
            for level, size in enumerate(sizes, 1)
            for n in range(int(size))
        ]

    found = load_problems(config, rows)
    assert held_out_counts(config) == (len(found.validation), len(found.test))


def test_held_out_problems_of_other_sources() -> None:
    tiny = DataConfig(source="tiny", validation_problems=3, test_problems=4)
    assert held_out_counts(tiny) == (15, 20)
    found = load_problems(tiny)
    assert held_out_counts(tiny) == (len(found.validation), len(found.test))
    assert held_out_counts(DataConfig(source="problems.jsonl", levels={1: 1, 2: 1, 3: 0})) == (64, 128)


def preset(*words: str) -> Config:
    return read_request(["--preset", *words]).config


def test_scores_before_step_1_take_minutes() -> None:
    cards = {"8gb": "RTX 4060", "12gb": "RTX 3060 12GB", "16gb": "RTX 4060 Ti 16GB", "24gb": "RTX 4090"}
    for name, card in {**cards, "colab-t4": "T4"}.items():
        found = forecast_on(preset(name), card).forecast
        assert found.before.seconds < 20 * 60 and found.total < 12 * 3600, name


def test_an_older_card_needs_more_memory_to_train() -> None:
    config = preset("16gb", "--memory.micro-batch-tokens", "2048")
    t4, other = (plan_on(config, place_of(config, card)) for card in ("T4", "L4"))
    assert t4.plan.activations - other.plan.activations == 2048 * 2 * 2 * (3584 - 512)


def spare(gib: float, *words: str, pace: Pace = PACE) -> str:
    config = preset(*words)
    return room_left(config, plan_on(config, place_of(config)), gib, pace)


def test_what_a_larger_card_is_for() -> None:
    assert spare(24, "24gb") == spare(23.6, "24gb") == spare(14.6, "colab-t4") == ""
    same = spare(24, "8gb")
    assert "no step is faster: 48 rollouts are decoded at once either way." in same
    assert "What would use it: the preset 24gb; rollout.prompts_per_step 24 instead of 6" in same
    assert "preset" not in spare(80, "24gb") and "rollout.prompts_per_step 48 instead of 12" in spare(80, "24gb")


def test_how_much_faster_a_step_is_with_the_rest_of_the_memory() -> None:
    """By the same count as the forecast, at a tenth of a second a token: 96 rollouts and 19 explanations (assumed)."""
    config = preset("24gb")
    explained = 0.4 * config.rollout.prompts_per_step * config.explanation.samples
    limit, rows = config.rollout.max_new_tokens / 1000, {}
    for alive in (30, 96):
        counts = [(min(count, alive), max(0, count - alive)) for count in (96, explained)]
        rows[alive] = in_words(limit * sum(last(first) + following(rest, alive) for first, rest in counts))
    words = ("24gb", "--memory.budget-gib", "12")
    assert (
        "With memory.budget_gib 23.5, 96 rollouts are decoded at once instead of 30, and a step writes for "
        f"{rows[96]} instead of {rows[30]}." in spare(23.57, *words)
    )
    slower = Pace(lambda rollouts, cached: rollouts**2, 0.001)
    said = spare(23.57, *words, pace=slower)
    assert "no step is faster, though 96 rollouts are decoded at once instead of 30." in said


@pytest.mark.parametrize("name", ["rollout.prompts_per_step", "rollout.max_new_tokens"])
@pytest.mark.parametrize("card", ["H100", "L4"])
def test_what_would_use_a_larger_card_fits_it(name: str, card: str) -> None:
    """All completions at once with the setting as it is advised; not with one that is twice as large."""
    config = preset("8gb")
    words = spare(CARDS[card].gib, "8gb").split()
    most, start = int(words[words.index(name) + 1]), value_of(config, name)

    def at_once(value: int) -> bool:
        changed = replaced(config, {"memory.budget_gib": CARDS[card].gib, name: value})
        planned = plan_on(changed, place_of(changed, card))
        return planned.fits and planned.units.rollouts_alive == 8 * changed.rollout.prompts_per_step

    assert at_once(most) and (most == 8 * start or not at_once(2 * most))


def test_the_budget_that_is_named_is_the_cards_own() -> None:
    """What is advised changes the plan as it says."""
    config = preset("24gb", "--memory.budget-gib", "23.5")
    assert plan_on(config, place_of(config, "RTX 4090")).units.rollouts_alive == 96
    assert CARDS["RTX 4090"].gib == 24


@pytest.mark.parametrize(("name", "gib", "older"), [("t4", 14.6, True), ("3060", 11.8, False), ("4090", 23.6, False)])
def test_the_plan_of_the_card_that_is_here(name: str, gib: float, older: bool) -> None:
    """Its capability decides whether keys and values are repeated, its memory what is the most to plan for."""
    device, config = torch.device("cuda", 0), preset("8gb")
    with driver_of(name):
        planned = plan_on(config, place_here(device))
        assert gib_of(device) == pytest.approx(gib) and planned.budget_gib == 8
        assert planned.workload.repeats_kv == older
        assert ("leaves the rest unused" in room_left(config, planned, gib_of(device), PACE)) == (gib > 8.8)
        assert plan_on(preset("24gb", "--memory.budget-gib", "100"), place_here(device)).budget_gib == gib_of(device)
