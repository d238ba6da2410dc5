"""What a step leaves in samples.jsonl: one attempt per prompt, and every explanation with its fate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from expo_lite.core.records import Completion, Problem, Verdict
from expo_lite.training.step import StepReport


def sample_records(report: StepReport) -> Iterator[dict[str, Any]]:
    """A rollout of each group (a wrong one where there is one), then all explanations, accepted or not."""
    for group in report.groups:
        rollout = min(group.rollouts, key=lambda r: r.reward)
        shared = sample_record(report.step, group.problem, rollout.completion, rollout.verdict)
        yield {**shared, "kind": "rollout", "reward": rollout.reward, "group": group.kind, "pass_rate": group.pass_rate}
    trained_on = {id(explanation) for chosen in report.trained_on for explanation in chosen}
    for written in report.explanations:
        for explanation in written:
            shared = sample_record(report.step, explanation.problem, explanation.completion, explanation.verdict)
            fate = {"rejected": explanation.rejected, "trained": id(explanation) in trained_on}
            yield {**shared, "kind": "explanation", **fate}


def sample_record(step: int, problem: Problem, completion: Completion, verdict: Verdict) -> dict[str, Any]:
    """What rollouts and explanations share."""
    return {
        "step": step,
        "problem": problem.id,
        "level": problem.level,
        "question": problem.question,
        "answer": problem.answer,
        "verdict": verdict.value,
        "tokens": len(completion.completion_ids),
        "text": completion.text,
        **({"where": problem.where} if problem.where else {}),
        **({"turns": [turn._asdict() for turn in problem.turns]} if problem.turns else {}),
    }
