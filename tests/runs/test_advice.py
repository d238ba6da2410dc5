"""Advice while a run trains: each sentence on why nothing is learned, and when it is given."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.run_folders import LEARNED, STUCK, against_base, explanation, write_run

from expo_lite.config.read import read_config
from expo_lite.runs.diagnosis import Finding
from expo_lite.runs.diagnosis.advice import Said, advise, gather
from expo_lite.runs.display import Display


def advice_on(folder: Path, *metrics: dict[str, Any], **records: Any) -> list[str]:
    run = write_run(folder, metrics, **records)
    return [finding.sentence for finding in advise(gather(run, read_config(run.config)))]


def rejected(**reasons: int) -> dict[str, Any]:
    """Numbers of a step whose explanations were all turned down."""
    counts = {f"explanations_rejected_{reason}": count for reason, count in reasons.items()}
    return {**STUCK, **counts, "explanations_written": sum(reasons.values())}


@pytest.mark.parametrize("metrics", [[], [LEARNED], [STUCK, LEARNED]])
def test_silence_where_something_was_learned(metrics: list[dict[str, Any]], tmp_path: Path) -> None:
    assert advice_on(tmp_path / "run", *metrics) == []


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
def test_why_nothing_was_learned(
    metrics: dict[str, Any], settings: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    (sentence,) = advice_on(tmp_path / "run", metrics, **settings)
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
def test_symptoms_are_named_also_while_learning(shares: dict[str, float], words: list[str], tmp_path: Path) -> None:
    (sentence,) = advice_on(tmp_path / "run", {**LEARNED, **shares})
    assert all(word in sentence for word in words)


@pytest.mark.parametrize("name", ["truncated_share", "no_answer_share"])
def test_a_symptom_counts_by_its_mean_over_the_steps(name: str, tmp_path: Path) -> None:
    assert advice_on(tmp_path / "less", {**LEARNED, name: 0.9}, {**LEARNED, name: 0.0}) == []
    assert len(advice_on(tmp_path / "more", {**LEARNED, name: 0.9}, {**LEARNED, name: 0.2})) == 1


def test_forgetting_names_each_level_that_fell_by_more_than_the_margin(tmp_path: Path) -> None:
    fallen = against_base([0.9, 0.9, 0.1], [0.85, 0.6, 0.9])
    (warning,) = advice_on(tmp_path / "one", LEARNED, evaluations=fallen, evaluation__forgetting_margin=0.1)
    assert all(words in warning for words in ("Level 2", "90%", "60%", "data.levels"))
    fallen = against_base([0.75], [0.5])
    assert advice_on(tmp_path / "none", LEARNED, evaluations=fallen, evaluation__forgetting_margin=0.25) == []


def test_what_the_model_wrote_does_not_break_the_display(tmp_path: Path) -> None:
    """Rich reads square brackets as markup, and raises where they make no sense."""
    text = "As we were told in [/red], the answer is \\boxed{4}."
    filters = {"explanation__filters": ["complete", "verified"]}
    (sentence,) = advice_on(tmp_path / "run", LEARNED, samples=[explanation(text)], **filters)
    shown = io.StringIO()
    with Display(Console(file=shown, width=400), steps=1, done=0) as display:
        display.note(sentence, style="yellow")
    assert "told in [/red], the answer" in shown.getvalue()


def test_a_warning_is_said_once_and_then_counted() -> None:
    """Its figures change with every validation, its name does not."""
    said = Said()

    def now(*names: str) -> list[str]:
        return said.lines([Finding(name, "warning", f"{name} at {sum(said.times.values())}.") for name in names])

    assert now("clipping", "leaks") == ["clipping at 0.", "leaks at 0."]
    assert now("clipping") == ["As before: clipping (2 times)"]
    assert now() == []
    assert now("forgetting", "clipping", "leaks") == [
        "forgetting at 3.",
        "As before: clipping (3 times), leaks (2 times)",
    ]
