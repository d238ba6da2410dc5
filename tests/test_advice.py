"""Each sentence of advice, and when it is given."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import tiny_config

from expo_lite.advice import advise, forgetting_warnings
from expo_lite.evaluation import Evaluation, LevelScore
from expo_lite.intervals import Estimate

LEARNED: dict[str, float] = {"groups_with_signal": 2, "failed_groups": 1, "mixed_groups": 2, "solved_groups": 1}
STUCK: dict[str, float] = {"groups_with_signal": 0, "failed_groups": 4, "mixed_groups": 0, "solved_groups": 0}


def advice_on(*metrics: dict[str, float], **settings: Any) -> list[str]:
    return advise(metrics, tiny_config(**settings))


def rejected(**reasons: int) -> dict[str, float]:
    """Numbers of a step whose explanations were all turned down."""
    counts = {f"explanations_rejected_{reason}": count for reason, count in reasons.items()}
    return {**STUCK, **counts, "explanations_written": sum(reasons.values())}


@pytest.mark.parametrize("metrics", [[], [LEARNED], [STUCK, LEARNED]])
def test_silence_where_something_was_learned(metrics: list[dict[str, float]]) -> None:
    assert advice_on(*metrics) == []


@pytest.mark.parametrize(
    ("metrics", "settings", "words"),
    [
        ({**STUCK, "failed_groups": 1, "solved_groups": 3}, {}, ["already right", "data.levels"]),
        (STUCK, {"explanation__source": "none"}, ["plain GRPO has no gradient", "--explanation.source self"]),
        (STUCK, {"explanation__source": "expert"}, ["no expert solutions", "--explanation.source self"]),
        (rejected(incomplete=5, leak=3), {}, ["5 of 8 were cut off", "rollout.max_new_tokens"]),
        (rejected(unverified=6, incomplete=2), {}, ["6 of 8 were wrong", "data.levels"]),
        (rejected(leak=7, unverified=1), {}, ["7 of 8 were betraying", "prompt.hinted"]),
    ],
)
def test_why_nothing_was_learned(metrics: dict[str, float], settings: dict[str, Any], words: list[str]) -> None:
    (sentence,) = advice_on(metrics, **settings)
    assert all(word in sentence for word in words)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"truncated_share": 0.6}, ["60%", "cut off at 24 tokens", "rollout.max_new_tokens"]),
        ({"no_answer_share": 0.75}, ["75%", "\\boxed{}", "prompt.task"]),
        ({"truncated_share": 0.6, "no_answer_share": 0.9}, ["cut off"]),  # what is cut off has no answer either
        ({"timeout_share": 0.1}, ["verifier.timeout_seconds"]),
    ],
)
def test_symptoms_are_named_also_while_learning(shares: dict[str, float], words: list[str]) -> None:
    (sentence,) = advice_on({**LEARNED, **shares})
    assert all(word in sentence for word in words)


@pytest.mark.parametrize("name", ["truncated_share", "no_answer_share"])
def test_a_symptom_counts_by_its_mean_over_the_steps(name: str) -> None:
    assert advice_on({**LEARNED, name: 0.9}, {**LEARNED, name: 0.0}) == []
    assert len(advice_on({**LEARNED, name: 0.9}, {**LEARNED, name: 0.2})) == 1


def evaluation(*pass_at_1: float) -> Evaluation:
    scores = [Estimate(mean, mean, mean) for mean in pass_at_1]
    return Evaluation([LevelScore(i, 8, 4, 4, score, score, 0.0) for i, score in enumerate(scores, 1)])


def test_forgetting_names_each_level_that_fell_by_more_than_the_margin() -> None:
    (warning,) = forgetting_warnings(evaluation(0.9, 0.9, 0.1), evaluation(0.85, 0.6, 0.9), margin=0.1)
    assert all(words in warning for words in ("Level 2", "90%", "60%", "data.levels"))
    assert len(forgetting_warnings(evaluation(0.9, 0.9), evaluation(0.5, 0.5), margin=0.1)) == 2
    assert forgetting_warnings(evaluation(0.75), evaluation(0.5), margin=0.25) == []
