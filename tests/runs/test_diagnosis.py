"""Each finding: a run that shows it, and one a notch healthier that does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import LEARNED, STUCK, against_base, explanation, write_run

from expo_lite.config.read import read_config
from expo_lite.runs.diagnosis import EVERY, Finding
from expo_lite.runs.diagnosis.advice import diagnose
from expo_lite.runs.folder import RunDir

NONE, EXPERT = {"explanation__source": "none"}, {"explanation__source": "expert"}
EARLY, FOUR = "First I show that 4 are more. 4-2=2", {"role": "user", "content": "There are 4 apples and 2 pears."}
LEAP, FALSE = "2+1+1 = $\\boxed{4}$", "2+1 = 4, so $\\boxed{4}$"
LEAK = "2+2=4. As we were told, the answer is $\\boxed{4}$."


def findings(folder: Path, now: float = 1000.0, **records: Any) -> dict[str, Finding]:
    """Findings by name."""
    run = write_run(folder, **records)
    return {finding.name: finding for finding in diagnose(run, read_config(run.config), now)}


def steps(count: int = 10, **numbers: Any) -> list[dict[str, Any]]:
    return [{**LEARNED, **numbers}] * count


def groups(failed: int, solved: int, mixed: int = 1, rescued: int = 0) -> dict[str, Any]:
    """Numbers of a step."""
    counts = {"failed_groups": failed, "solved_groups": solved, "mixed_groups": mixed, "rescued_groups": rescued}
    return {**counts, "groups_with_signal": mixed, "updates": 1}


def written(accepted: int, **rejected: int) -> dict[str, Any]:
    """Numbers of a step that learned something, and wrote explanations."""
    counts = {f"explanations_rejected_{reason}": count for reason, count in rejected.items()}
    made = accepted + sum(rejected.values())
    return {**LEARNED, **counts, "explanations_written": made, "explanations_accepted": accepted}


def entropies(late: float, **numbers: Any) -> list[dict[str, Any]]:
    return steps(10, entropy_nats=1.0, **numbers) + steps(10, entropy_nats=late, **numbers)


def disagreeing(right: int, others: list[str], **fields: Any) -> list[dict[str, Any]]:
    """Explanations of one problem, of two steps, whose known answer is 4."""
    told = [explanation(**fields)] * right
    away = [explanation(f"so \\boxed{{{other}}}", verdict="wrong", trained=False, **fields) for other in others]
    return [{**sample, "step": 1 + number % 2} for number, sample in enumerate([*told, *away])]


def attempts(*pass_rates: float, question: str = "What is 1+1?") -> list[dict[str, Any]]:
    """Attempts at as many other problems whose questions look alike."""
    shared = {"kind": "rollout", "step": 1, "question": question, "verdict": "wrong", "text": ""}
    return [{**shared, "problem": f"{question} {n}", "pass_rate": rate} for n, rate in enumerate(pass_rates)]


UNFILTERED = {"explanation__filters": ["complete", "verified"]}
UNVERIFIED = {"explanation__filters": ["complete", "no_leak"]}
TRUE_STEPS = {"explanation__filters": ["complete", "no_leak", "true_steps"]}
WRONG = explanation(verdict="wrong")
RUNNING = {"state": "running", "step": 3, "heartbeat": 939.0}

# name, records that show it, records a notch healthier, words of the sentence, words of the setting
CASES: list[tuple[str, dict[str, Any], dict[str, Any], list[str], str]] = [
    (
        "no_signal",
        {"metrics": [STUCK], **NONE},
        {"metrics": [{**STUCK, "groups_with_signal": 1}], **NONE},
        ["plain GRPO has no gradient"],
        "--explanation.source self",
    ),
    (
        "no_signal",
        {"metrics": [groups(0, 4, mixed=0)]},
        {"metrics": [groups(0, 4, mixed=1)]},
        ["already right", "data.levels"],
        "--data.levels",
    ),
    (
        "failed_groups",
        {"metrics": [groups(3, 8)], **NONE},
        {"metrics": [groups(2, 8)], **NONE},
        ["3 of 12 groups", "advantages are 0"],
        "--explanation.source self",
    ),
    (
        "failed_groups",
        {"metrics": [groups(4, 5, rescued=1)], **EXPERT},
        {"metrics": [groups(4, 5, rescued=2)], **EXPERT},
        ["3 of 4 failed groups have no expert solution"],
        "--explanation.source self",
    ),
    (
        "solved_groups",
        {"metrics": [groups(0, 9)]},
        {"metrics": [groups(1, 8)]},
        ["9 of 10 groups are solved"],
        "--data.levels",
    ),
    (
        "solved_groups",
        {"metrics": [groups(0, 9)], "evaluations": against_base([0.5], [0.6])},
        {"metrics": [groups(0, 9)], "evaluations": against_base([0.5], [0.61])},  # it climbed: that is success
        ["9 of 10"],
        "--data.levels",
    ),
    (
        "few_updates",
        {"metrics": [STUCK, STUCK, LEARNED]},
        {"metrics": [STUCK, LEARNED]},
        ["2 of 3 steps", "rollout.group_size"],
        "--rollout.prompts-per-step 32",
    ),
    (
        "truncation",
        {"metrics": steps(truncated_share=0.51)},
        {"metrics": steps(truncated_share=0.5)},
        ["51%", "cut off at 24 tokens"],
        "--rollout.max-new-tokens 48",
    ),
    (
        "no_answer",
        {"metrics": steps(no_answer_share=0.51)},
        {"metrics": steps(no_answer_share=0.5)},
        ["51%", "the format, not the reasoning"],
        "--prompt.task",
    ),
    (
        "timeouts",
        {"metrics": steps(timeout_share=0.06)},
        {"metrics": steps(timeout_share=0.05)},
        ["6%", "not known", "verifier.timeout_seconds"],
        "--verifier.timeout-seconds 10",
    ),
    (
        "rejected_explanations",
        {"metrics": [written(2, incomplete=2, leak=1)]},
        {"metrics": [written(2, incomplete=1, leak=1)]},
        ["Only 2 of 5", "2 of 5 were cut off"],
        "--rollout.max-new-tokens 48",
    ),
    (
        "rejected_explanations",
        {"metrics": [written(1, unverified=2)]},
        {"metrics": [written(1, unverified=1)]},
        ["2 of 3 were wrong even though the answer was told"],
        "--data.levels",
    ),
    (
        "rejected_explanations",
        {"metrics": [written(2, unverified=1)] * 75 + [written(1, unverified=2)] * 25},
        {"metrics": [written(1, unverified=1)] * 40},
        ["50 of 75 were wrong even though the answer was told, and earlier most were not: the base would"],
        "--explanation.explained-by base",
    ),
    (
        "rejected_explanations",
        {"metrics": [written(1, unverified=1)] * 75 + [written(1, unverified=2)] * 25},
        {"metrics": [written(1, unverified=1)] * 40},
        ["50 of 75 were wrong even though the answer was told: start from easier problems"],
        "--data.levels",
    ),
    (
        "rejected_explanations",
        {
            "metrics": [written(2, unverified=1)] * 75 + [written(1, unverified=2)] * 25,
            "explanation__explained_by": "base",
        },
        {"metrics": [written(1, unverified=1)] * 40},
        ["50 of 75 were wrong even though the answer was told: start from easier problems"],
        "--data.levels",
    ),
    (
        "leaks",
        {"metrics": [written(7, leak=2)]},
        {"metrics": [written(8, leak=2)]},
        ["2 of 9", "betraying"],
        "--prompt.hinted",
    ),
    (  # the same text is no leak where an earlier turn, as the filter reads it, has the number
        "trained_leaks",
        {"metrics": steps(), "samples": [explanation(EARLY)], **UNFILTERED},
        {"metrics": steps(), "samples": [explanation(EARLY, turns=[FOUR])], **UNFILTERED},
        ["1 of 1", "First I show that 4"],
        "--explanation.filters complete,explains,no_leak,verified",
    ),
    (
        "trained_leaks",
        {"metrics": steps(), "samples": [explanation(), explanation(LEAK)], **UNFILTERED},
        {"metrics": steps(), "samples": [explanation(), explanation(LEAK, trained=False)], **UNFILTERED},
        ["1 of 2", "As we were told, the answer", "no_leak"],
        "--explanation.filters complete,explains,no_leak,verified",
    ),
    (
        "trained_wrong",
        {"metrics": steps(), "samples": [explanation(), WRONG], **UNVERIFIED},
        {"metrics": steps(), "samples": [explanation(), {**WRONG, "trained": False}], **UNVERIFIED},
        ["1 of 2", "do not arrive"],
        "--explanation.filters complete,explains,no_leak,verified",
    ),
    (
        "unlikely_explanations",
        {"metrics": steps(explanation_nll_nats=1.1), **EXPERT},
        {"metrics": steps(explanation_nll_nats=1.0), **EXPERT},
        ["1.10 nats", "33%"],
        "--explanation.source self",
    ),
    (
        "unlikely_explanations",
        {"metrics": steps(explanation_nll_nats=1.1)},
        {"metrics": [*steps(1), {**LEARNED, "explanation_nll_nats": 1.0}]},  # a step without one does not count as 0
        ["1.10 nats"],
        "--explanation.selection likeliest",
    ),
    (  # what a run has beside the filters that are on by default stays
        "trained_wrong",
        {"metrics": steps(), "samples": [explanation(), WRONG], **TRUE_STEPS},
        {"metrics": steps(), "samples": [explanation(), {**WRONG, "trained": False}], **TRUE_STEPS},
        ["1 of 2"],
        "--explanation.filters complete,explains,no_leak,true_steps,verified",
    ),
    (  # leaps, which no filter finds
        "wrong_steps",
        {"metrics": steps(explanations_steps_right_share=0.49), "samples": [explanation(LEAP)]},
        {"metrics": steps(explanations_steps_right_share=0.5), "samples": [explanation(LEAP)]},
        ["49%"],
        "--explanation.selection likeliest",
    ),
    (
        "wrong_steps",
        {"metrics": steps(explanations_steps_right_share=0.49), "samples": [explanation(FALSE)]},
        {"metrics": steps(explanations_steps_right_share=0.5), "samples": [explanation(FALSE)]},
        ["49%"],
        "--explanation.filters complete,explains,no_leak,true_steps,verified",
    ),
    (
        "wrong_steps",
        {"metrics": steps(explanations_steps_right_share=0.49), **EXPERT},
        {"metrics": steps(explanations_steps_right_share=0.5), **EXPERT},
        ["49%"],
        "--explanation.source self",
    ),
    (
        "forgetting",
        {"metrics": steps(), "evaluations": against_base([0.9, 0.9, 0.9], [0.75, 0.85, 0.5])},
        {"metrics": steps(), "evaluations": against_base([0.75, 0.9, 0.9], [0.65, 0.85, 0.9])},
        ["Level 1 has fallen from 90% to 75%, level 3 from 90% to 50%.", "data.levels"],
        "--data.levels 1=2,2=1,3=2,4=2,5=3",
    ),
    (
        "standstill",
        {"metrics": steps(20), "evaluations": against_base([0.5, 0.5], [0.51, 0.5])},
        {"metrics": steps(19), "evaluations": against_base([0.5, 0.5], [0.51, 0.5])},
        ["20 updates", "level 2 from 50% to 50%"],
        "--optimizer.learning-rate 3e-06",
    ),
    (
        "standstill",
        {"metrics": steps(20), "evaluations": against_base([0.5], [0.5])},
        {"metrics": steps(20), "evaluations": against_base([0.5], [0.53])},
        ["20 updates"],
        "--optimizer.learning-rate",
    ),
    (
        "sampler_trainer_gap",
        {"metrics": steps(sampler_trainer_gap_nats=0.002), "policy__device": "cpu"},
        {"metrics": steps(sampler_trainer_gap_nats=0.001), "policy__device": "cpu"},
        ["0.002 nats", "not what was sampled"],
        "--rollout.dense-weights no",
    ),
    (
        "sampler_trainer_gap",
        {"metrics": steps(sampler_trainer_gap_nats=0.06), "policy__backend": "unsloth"},
        {"metrics": steps(sampler_trainer_gap_nats=0.05), "policy__backend": "unsloth"},
        ["0.06 nats"],
        "--policy.backend transformers",
    ),
    (
        "entropy_collapse",
        {"metrics": entropies(0.09, reward_mean=0.5)},
        {"metrics": entropies(0.1, reward_mean=0.5)},
        ["from 1 to 0.09 nats", "0.50"],
        "--optimizer.learning-rate 3.3e-07",
    ),
    (
        "entropy_collapse",
        {"metrics": entropies(0.09, reward_mean=0.9)},
        {"metrics": entropies(0.09, reward_mean=0.91)},  # who is right may be certain
        ["0.90"],
        "--optimizer.learning-rate",
    ),
    (
        "clipping",
        {"metrics": steps(10, gradient_norm=2.0), "optimizer__max_grad_norm": 1.0},
        {"metrics": steps(8, gradient_norm=2.0) + steps(2, gradient_norm=1.0), "optimizer__max_grad_norm": 1.0},
        ["10 of 10 gradients", "median norm 2, limit 1"],
        "--optimizer.max-grad-norm 4",
    ),
    (
        "overflow",
        {"metrics": steps(8) + steps(2, updates=0, gradient_norm=None)},
        {"metrics": steps(9) + steps(1, updates=0, gradient_norm=None)},
        ["2 of 10 steps", "not finite"],
        "--policy.dtype float32",
    ),
    (
        "undecided_pairs",
        {"metrics": steps(10, pairs=3, dpo_accuracy_share=0.54)},
        {"metrics": steps(10, pairs=3, dpo_accuracy_share=0.56)},
        ["54% of the pairs"],
        "--optimizer.learning-rate 3e-06",
    ),
    (
        "out_of_memory",
        {"metrics": [LEARNED, {**LEARNED, "out_of_memory_halvings": 2}]},
        {"metrics": [LEARNED, {**LEARNED, "out_of_memory_halvings": 0}]},
        ["2 times (step 2)", "Results are the same"],
        "--memory.budget-gib",
    ),
    (
        "wrong_answers",
        {"metrics": steps(), "samples": disagreeing(1, ["5", "5", " 5", "6"]) + attempts(1, 0.5, 0)},
        {"metrics": steps(), "samples": disagreeing(2, ["5", "5", "5", "5"]) + attempts(1, 0.5, 0)},
        ["1 of 1 explained problems"],
        "--data.source",
    ),
    (
        "wrong_answers",
        {"metrics": steps(), "samples": disagreeing(0, ["5", "5", "5", "6"]) + attempts(1, 0.5, 0)},
        {"metrics": steps(), "samples": disagreeing(0, ["5", "5", "6", "7"]) + attempts(1, 0.5, 0)},
        ["1 of 1"],
        "--data.source",
    ),
    (
        "disagreements",
        {"metrics": steps(), "samples": disagreeing(0, ["5", "5", "5", "6"]) + attempts(1, 0, 0)},
        {"metrics": steps(), "samples": disagreeing(0, ["5", "5", "5", "6"]) + attempts(1, 0.5, 0)},
        ["1 of 1", "Either the model cannot do problems like these", "or their known answers are wrong"],
        "--data.levels",
    ),
    (
        "died",
        {"metrics": steps(), "status": RUNNING},
        {"metrics": steps(), "status": {**RUNNING, "heartbeat": 940.0}},
        ["61 seconds ago", "after step 3"],
        "--resume --run ",
    ),
    (
        "failed",
        {"metrics": steps(), "status": {**RUNNING, "state": "failed"}},
        {"metrics": steps(), "status": {**RUNNING, "state": "stopped"}},
        ["error after step 3"],
        "--resume --run ",
    ),
    ("no_steps", {}, {"metrics": [LEARNED]}, ["No step"], ""),
]
GOOD: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("updating", {"metrics": [LEARNED, LEARNED, STUCK]}, {"metrics": [LEARNED, STUCK]}, ["2 of 3 steps"]),
    ("rescued", {"metrics": [groups(3, 1, rescued=2)]}, {"metrics": [groups(4, 1, rescued=2)]}, ["3 times", "2 times"]),
    (
        "climbing",
        {"metrics": steps(), "evaluations": against_base([0.5, 0.0], [0.5, 0.11])},
        {"metrics": steps(), "evaluations": against_base([0.5, 0.0], [0.5, 0.1])},
        ["level 2 from 0% to 11%"],
    ),
]


@pytest.mark.parametrize(("name", "sick", "healthy", "words", "setting"), CASES)
def test_what_is_wrong(
    name: str, sick: dict[str, Any], healthy: dict[str, Any], words: list[str], setting: str, tmp_path: Path
) -> None:
    finding = findings(tmp_path / "sick", **sick)[name]
    assert finding.severity != "good"
    assert all(word in finding.sentence for word in words), finding.sentence
    assert (finding.setting or "").startswith(setting)
    assert name not in findings(tmp_path / "healthy", **healthy)


@pytest.mark.parametrize(("name", "well", "less", "words"), GOOD)
def test_what_goes_well(
    name: str, well: dict[str, Any], less: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    found = findings(tmp_path / "well", **well)
    assert found[name].severity == "good"
    assert all(word in found[name].sentence for word in words), found[name].sentence
    assert next(iter(found)) in {case[0] for case in GOOD}  # what goes well comes first
    assert name not in findings(tmp_path / "less", **less)


def test_every_check_has_its_case() -> None:
    """A check's function and its finding may differ in name, but each check is in exactly one of the lists."""
    assert len({case[0] for case in CASES + GOOD}) == len(EVERY)  # type: ignore[operator]


def test_a_lock_is_a_sign_of_life(tmp_path: Path) -> None:
    records = {"metrics": steps(), "status": RUNNING}
    assert "died" in findings(tmp_path / "run", **records)
    with RunDir.open(tmp_path / "run"):
        assert "died" not in findings(tmp_path / "run", **records)
    assert "died" in findings(tmp_path / "run", **records)


def test_rejections_come_with_the_newest_example(tmp_path: Path) -> None:
    old, new = (explanation(text, rejected="leak", trained=False) for text in ("old", "new"))
    found = findings(tmp_path / "run", metrics=[written(0, leak=2)], samples=[old, new, explanation("fine")])
    assert found["rejected_explanations"].cases == ({"step": 1, "problem": "p", "text": "new"},)


def test_an_example_says_what_was_asked(tmp_path: Path) -> None:
    """The id of a problem of a file is a number that says nothing."""
    sample = explanation("new", rejected="leak", trained=False) | {"question": "7 * 3?", "answer": "21"}
    found = findings(tmp_path / "run", metrics=[written(0, leak=2)], samples=[sample])
    assert found["rejected_explanations"].cases == ({"step": 1, "question": "7 * 3?", "answer": "21", "text": "new"},)


def test_wrong_answers_name_problem_known_and_other(tmp_path: Path) -> None:
    place = {"where": "sums.jsonl:7", "question": "What is\n 2+2?"}
    samples = [*disagreeing(0, ["5"] * 4, problem="a", **place), *disagreeing(4, [], problem="b")]
    found = findings(tmp_path / "run", metrics=steps(), samples=samples)["wrong_answers"]
    assert "1 of 2" in found.sentence
    (case,) = found.cases
    assert list(case.items()) == [
        ("row", "sums.jsonl:7"),
        ("question", "What is 2+2?"),
        ("known", "4"),
        ("other", "5"),
        ("arrived_there", "4 of 4"),
    ]


def test_the_problems_most_alike_tell_a_wrong_answer_from_a_weak_model(tmp_path: Path) -> None:
    """Sums of one-digit numbers, which the model cannot add, in a file of sums that it solves."""
    hard = attempts(0, 0, 0, question="What is 3+4?")
    easy = attempts(1, 1, 1, 1, 1, question="What is 31+42?")
    for question, name in (("What is 2+5?", "disagreements"), ("What is 22+35?", "wrong_answers")):
        told = disagreeing(0, ["5"] * 4, question=question)
        found = findings(tmp_path / name, metrics=steps(), samples=[*hard, *easy, *told])
        assert {"disagreements", "wrong_answers"} & set(found) == {name}


def test_problems_are_alike_by_all_their_turns(tmp_path: Path) -> None:
    """The last turn may be the same in every chat; a row shows what was said before it."""

    def chats(samples: list[dict[str, Any]], said: str) -> list[dict[str, Any]]:
        return [{**sample, "turns": [{"role": "user", "content": said}]} for sample in samples]

    hard = chats(attempts(0, 0, 0, question="Their sum?"), "Take 3 and 4.")
    easy = chats([{**s, "problem": f"easy {s['problem']}"} for s in attempts(1, 1, 1, 1)], "Take 31 and 42.")
    for said, name in (("Take 2 and 5.", "disagreements"), ("Take 22 and 35.", "wrong_answers")):
        told = chats(disagreeing(0, ["5"] * 4, question="Their sum?"), said)
        samples = [{**sample, "question": "Their sum?"} for sample in (*hard, *easy, *told)]
        found = findings(tmp_path / name, metrics=steps(), samples=samples)
        assert {"disagreements", "wrong_answers"} & set(found) == {name}
        assert found[name].cases[0]["question"] == f"{said} Their sum?"


def test_problems_of_other_levels_are_no_neighbours(tmp_path: Path) -> None:
    told = disagreeing(0, ["5"] * 4, question="What is 2+5?", level=2)
    samples = [*told, *({**sample, "level": 1} for sample in attempts(1, 1, 1, question="What is 3+4?"))]
    assert "wrong_answers" not in findings(tmp_path / "run", metrics=steps(), samples=samples)


def test_neighbours_that_are_explained_count_as_those_that_are_solved(tmp_path: Path) -> None:
    told = disagreeing(0, ["5"] * 4, problem="a")
    explained = [sample for name in "bcd" for sample in disagreeing(3, ["5"], problem=name)]
    assert "wrong_answers" in findings(tmp_path / "run", metrics=steps(), samples=[*told, *explained])


def test_one_visit_proves_nothing(tmp_path: Path) -> None:
    """Explanations of one step share a slip of one policy."""
    samples = [{**sample, "step": 7} for sample in disagreeing(0, ["5"] * 4)] + attempts(1)
    assert "wrong_answers" not in findings(tmp_path / "run", metrics=steps(), samples=samples)


def test_dpo_learns_from_pairs(tmp_path: Path) -> None:
    """Groups with signal are not what counts there."""
    found = findings(tmp_path / "none", metrics=[{**STUCK, "groups_with_signal": 3, "pairs": 0}], **NONE)
    assert found["no_signal"].setting == "--explanation.source self"
    assert "no_signal" not in findings(tmp_path / "some", metrics=[{**STUCK, "pairs": 1}], **NONE)


def test_the_newest_scores_count(tmp_path: Path) -> None:
    fell, rose = against_base([0.9], [0.5]), against_base([0.9], [0.9], "test")
    assert "forgetting" in findings(tmp_path / "fell", metrics=steps(), evaluations=[*rose, *fell])
    assert "forgetting" not in findings(tmp_path / "rose", metrics=steps(), evaluations=[*fell, *rose])


def test_old_troubles_are_forgiven(tmp_path: Path) -> None:
    """Shares are over the last steps: since a validation ago, or the last quarter."""
    metrics = [*steps(25, truncated_share=0.9), *steps(25, truncated_share=0.0)]
    assert "truncation" not in findings(tmp_path / "mended", metrics=metrics)
    assert "truncation" in findings(tmp_path / "worse", metrics=metrics[::-1])


def test_numbers_of_later_versions_and_nulls_are_ignored(tmp_path: Path) -> None:
    strange = {"novel_share": "x", "truncated_share": None, "gradient_norm": None, "nested": {"a": 1}}
    found = findings(tmp_path / "run", metrics=steps(10, **strange), samples=[{"kind": "novel"}, {}])
    assert {finding.severity for finding in found.values()} == {"good"}


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", metrics=steps(), samples=[explanation()])
    for name in ("metrics", "samples", "eval"):
        with open(tmp_path / "run" / f"{name}.jsonl", "a") as file:
            file.write(json.dumps({"step": 11, "truncated_share": 1})[:-4])
    found = diagnose(run, read_config(run.config))
    assert {finding.severity for finding in found} == {"good"}


def test_dpo_is_told_what_holds_it_to_the_base(tmp_path: Path) -> None:
    """More weight for an easy level would not help: solved problems make no pairs."""
    fell = against_base([0.9], [0.5])
    found = findings(tmp_path / "dpo", metrics=steps(pairs=3), evaluations=fell, objective__name="dpo")["forgetting"]
    assert found.setting == "--dpo.beta 0.2" and "data.levels" not in found.sentence
    assert findings(tmp_path / "grpo", metrics=steps(), evaluations=fell)["forgetting"].setting.startswith(
        "--data.levels"
    )
    away = findings(tmp_path / "away", metrics=steps(explanation_nll_nats=3.0), objective__name="dpo")
    assert away["unlikely_explanations"].setting == "--dpo.nll_weight 0.1"


@pytest.mark.parametrize("hint", ["wrong", "none"])
def test_golds_are_not_accused_where_they_were_not_told(hint: str, tmp_path: Path) -> None:
    samples = disagreeing(0, ["5"] * 4) + attempts(1)
    assert "wrong_answers" in findings(tmp_path / "told", metrics=steps(), samples=samples)
    assert "wrong_answers" not in findings(tmp_path / hint, metrics=steps(), samples=samples, explanation__hint=hint)


def test_an_update_that_was_not_tried_is_no_overflow(tmp_path: Path) -> None:
    """Where all rows were left out there is no gradient at all; where it overflowed it is written as null."""
    assert "overflow" not in findings(tmp_path / "left_out", metrics=steps(updates=0))
    assert "overflow" in findings(tmp_path / "overflow", metrics=steps(updates=0, gradient_norm=None))
