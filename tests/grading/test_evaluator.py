"""The evaluator on scripted answers, and the scores that follow."""

from __future__ import annotations

from typing import Any

import pytest
from support.tiny_models import CUT, ScriptedSampler, tiny_config

from expo_lite.core.records import Answered, Problem, Verdict
from expo_lite.grading.evaluator import Evaluation, Evaluator, level_score
from expo_lite.grading.judge import Judgement
from expo_lite.grading.verifier import Verifier
from expo_lite.model.prompts import Prompts
from scripts.tiny_base.tokenizer import build_tokenizer

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


def test_what_could_not_be_judged_in_time_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    evaluator = evaluator_of(SCRIPT)[0]
    verdicts = [[Judgement(Verdict.TIMEOUT, 0.0)] * 3 + [Judgement(Verdict.CORRECT, 1.0)]]
    monkeypatch.setattr(evaluator.judge, "judge_completions", lambda *_: verdicts)
    assert evaluator.answer([EASY]) == [Answered("a", 1, 4, 1, 0)]
    assert "3 of 4 answers could not be judged in time" in caplog.text


def test_answers_are_counted_by_problem() -> None:
    answered = evaluator_of(SCRIPT)[0].answer([HARD, EASY])
    assert answered == [Answered("c", 4, 4, 1, 2), Answered("a", 1, 4, 3, 0)]
    assert level_score(answered[:1], 4).pass_at_k.mean == 1.0
