"""Known answers that are likely wrong: told one, the model keeps arriving at another.

It works where the model disagrees with a wrong hint. Where it talks itself into any answer it is told, nothing shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from expo_lite.grading.answer_text import boxed_answer, normalise
from expo_lite.runs.diagnosis.evidence import Evidence, Finding

ENOUGH = 4  # explanations of one problem
VISITS = 2  # steps they come from: those of one step share the slip of one policy
AGREED = 0.25  # of them may arrive at the known answer
UNANIMOUS = 0.5  # more than this share of those that end name one other answer
LISTED = 20


def wrong_answers(run: Evidence) -> Finding | None:
    """Problems whose self-explanations keep disagreeing with the hint, and agree among themselves."""
    explanation = run.config.explanation
    if explanation.source != "self" or explanation.hint != "answer":
        return None
    by_problem: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for sample in run.explanations():
        by_problem[str(sample.get("problem"))].append(sample)
    found = [case for of_problem in by_problem.values() if (case := suspicion(of_problem))]
    if not found:
        return None
    sentence = (
        f"The known answers of {len(found)} of {len(by_problem)} explained problems are likely wrong: the explanations "
        "keep arriving at one other answer. Check these rows of data.source."
    )
    return Finding("wrong_answers", "warning", sentence, "--data.source", tuple(found[:LISTED]))


def suspicion(explanations: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """One problem's other answer, with its share; None where the known one may stand."""
    right = sum(sample.get("verdict") == "correct" for sample in explanations)
    visits = {sample.get("step") for sample in explanations}
    if len(explanations) < ENOUGH or len(visits) < VISITS or right > AGREED * len(explanations):
        return None
    boxes = [box for sample in explanations if (box := boxed_answer(str(sample.get("text", ""))))]
    others = Counter(map(normalise, boxes))
    gold = str(explanations[0].get("answer", ""))
    others.pop(normalise(gold), None)
    other, count = others.most_common(1)[0] if others else ("", 0)
    if count < ENOUGH / 2 or count <= UNANIMOUS * len(boxes):
        return None
    return {
        "problem": explanations[0].get("problem"),
        "known": gold,
        "other": other,
        "arrived_there": f"{count} of {len(explanations)}",
    }


CHECKS = (wrong_answers,)
