"""pass@k, its intervals, and the evaluator on scripted answers."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from tiny_models import CUT, ScriptedSampler, tiny_config

from expo_lite.evaluation import Evaluation, Evaluator, bootstrap_mean, pass_at_k
from expo_lite.prompts import Prompts
from expo_lite.tiny.tokenizer import build_tokenizer
from expo_lite.types import Problem
from expo_lite.verifier import Verifier


@pytest.mark.parametrize("samples", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_k_subsets_with_a_right_answer(samples: int) -> None:
    for k in range(1, samples + 1):
        for correct in range(samples + 1):
            answers = [i < correct for i in range(samples)]
            expected = np.mean([any(subset) for subset in combinations(answers, k)])
            assert pass_at_k([correct], samples, k)[0] == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_needs_k_samples(k: int) -> None:
    with pytest.raises(ValueError, match="4"):
        pass_at_k([1], 4, k)


def test_bootstrap_interval_covers_the_true_mean() -> None:
    """Nominally in 95 % of repetitions; 60 problems and 300 repetitions leave room for chance."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        estimate = bootstrap_mean(rng.random(60) < 0.4)
        covered.append(estimate.low <= 0.4 <= estimate.high)
        assert estimate.low <= estimate.mean <= estimate.high
    assert 0.88 <= np.mean(covered) <= 0.99


def test_bootstrap_of_equal_values_is_a_point() -> None:
    estimate = bootstrap_mean([0.25] * 9)
    assert (estimate.mean, estimate.low, estimate.high) == (0.25, 0.25, 0.25)
    assert str(estimate) == "25 [25, 25]"


EASY, EASY2, HARD = Problem("a", "1?", "1", 1), Problem("b", "2?", "2", 1), Problem("c", "3?", "3", 4)


class FakePolicy:
    tokenizer = build_tokenizer()


def evaluator_of(script: dict[str, list[str]]) -> tuple[Evaluator, ScriptedSampler]:
    policy: Any = FakePolicy()
    sampler: Any = ScriptedSampler(policy, {("evaluation", id): texts for id, texts in script.items()})
    prompts = Prompts(policy.tokenizer, tiny_config().prompt)
    return Evaluator(sampler, prompts, Verifier(), seed=3, samples=4, max_new_tokens=9, temperature=0.7), sampler


def boxes(*answers: int) -> list[str]:
    return [f"\\boxed{{{answer}}}" for answer in answers]


SCRIPT = {"a": boxes(1, 1, 1, 5), "b": boxes(5, 2, 5, 5), "c": [*boxes(3), "4" + CUT, "4" + CUT, "4"]}


def test_scores_by_level_whatever_the_order_of_problems() -> None:
    evaluator, sampler = evaluator_of(SCRIPT)
    easy, hard = evaluator.evaluate([EASY, HARD, EASY2], k=2).levels
    assert (easy.level, easy.problems, easy.samples, easy.k) == (1, 2, 4, 2)
    assert easy.pass_at_1.mean == (3 / 4 + 1 / 4) / 2
    assert easy.pass_at_k.mean == pytest.approx((1 + (1 - 3 / 6)) / 2)
    assert (hard.level, hard.problems, hard.pass_at_1.mean) == (4, 1, 1 / 4)
    assert (easy.truncated_share, hard.truncated_share) == (0, 0.5)
    assert [r.stream for r in sampler.requests] == [(3, "evaluation", id) for id in "acb"]


def test_k_is_by_default_the_number_of_samples() -> None:
    evaluation = evaluator_of(SCRIPT)[0].evaluate([EASY, EASY2, HARD])
    assert [(score.k, score.pass_at_k.mean) for score in evaluation.levels] == [(4, 1.0), (4, 1.0)]
    assert evaluation.mean_pass_at_1 == (0.5 + 0.25) / 2


def test_record_round_trip() -> None:
    import json

    evaluation = evaluator_of(SCRIPT)[0].evaluate([EASY, HARD])
    assert Evaluation.from_record(json.loads(json.dumps(evaluation.record()))) == evaluation
