"""Known answers in doubt: told one, the model keeps arriving at another. Is the answer wrong, or the model weak?

Both look the same in one problem. So its neighbours are asked: where the model solves or explains the problems most
like it, the answer is likely wrong; where it does not, either may be. Where the model talks itself into any answer it
is told, nothing shows.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from expo_lite.grading.answer_text import boxed_answer, normalise
from expo_lite.runs.diagnosis.evidence import Evidence, Finding, problem_of

ENOUGH = 4  # explanations of one problem
VISITS = 2  # steps they come from: those of one step share the slip of one policy
AGREED = 0.25  # of them may arrive at the known answer
UNANIMOUS = 0.5  # more than this share of those that end name one other answer
NEIGHBOURS = 3  # problems most like it, and as many more as are equally like it
HANDLED = 0.5  # more than this share of them is solved, or explained
LISTED = 20

Sample = Mapping[str, Any]


def wrong_answers(run: Evidence) -> Finding | None:
    """Problems whose self-explanations agree on another answer than the hint, though the model handles their like."""
    likely, _, explained = doubts(run)
    if not likely:
        return None
    sentence = (
        f"The known answers of {len(likely)} of {explained} explained problems are likely wrong: the explanations keep "
        "arriving at one other answer, and the model can do the problems most like them. Check these rows of "
        "data.source."
    )
    return Finding("wrong_answers", "warning", sentence, "--data.source", tuple(likely[:LISTED]))


def disagreements(run: Evidence) -> Finding | None:
    """Problems of the same kind where the model does not handle their like either: a weakness looks the same."""
    _, unsettled, explained = doubts(run)
    if not unsettled:
        return None
    sentence = (
        f"The explanations of {len(unsettled)} of {explained} explained problems keep arriving at one other answer "
        "than the known one. Either the model cannot do problems like these yet (it fails most of those like them), or "
        "their known answers are wrong. Look at a few; if they are right, start from easier problems (data.levels)."
    )
    return Finding("disagreements", "note", sentence, "--data.levels", tuple(unsettled[:LISTED]))


def doubts(run: Evidence) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Cases whose known answer is likely wrong, those where the model may be weak, and how many were explained."""
    explanation = run.config.explanation
    if explanation.source != "self" or explanation.hint != "answer":
        return [], [], 0
    by_problem: defaultdict[str, list[Sample]] = defaultdict(list)
    attempts: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in run.samples:
        of_kind = by_problem if sample.get("kind") == "explanation" else attempts
        of_kind[str(sample.get("problem"))].append(sample)
    suspected = {name: case for name, told in by_problem.items() if (case := suspicion(told))}
    if not suspected:
        return [], [], len(by_problem)
    others = {name: [*attempts[name], *by_problem.get(name, ())] for name in {**attempts, **by_problem}}
    looks = {name: _look(samples[0]) for name, samples in others.items()}
    handled = {name: _handled(attempts[name], by_problem.get(name, ())) for name in others}
    likely, unsettled = [], []
    for name, case in suspected.items():
        like = _most_like(name, looks)
        solves = sum(handled[other] for other in like) > HANDLED * len(like)
        (likely if like and solves else unsettled).append(case)
    return likely, unsettled, len(by_problem)


def suspicion(explanations: Sequence[Sample]) -> dict[str, Any] | None:
    """One problem's other answer, with its share; None where the known one may stand."""
    right = sum(sample.get("verdict") == "correct" for sample in explanations)
    visits = {sample.get("step") for sample in explanations}
    if len(explanations) < ENOUGH or len(visits) < VISITS or right > AGREED * len(explanations):
        return None
    boxes = [box for sample in explanations if (box := boxed_answer(str(sample.get("text", ""))))]
    others = Counter(map(normalise, boxes))
    first = explanations[0]
    gold = str(first.get("answer", ""))
    others.pop(normalise(gold), None)
    other, count = others.most_common(1)[0] if others else ("", 0)
    if count < ENOUGH / 2 or count <= UNANIMOUS * len(boxes):
        return None
    return {
        **({"row": first["where"]} if first.get("where") else {}),
        "question": " ".join(problem_of(first).asked.split()),
        "known": gold,
        "other": other,
        "arrived_there": f"{count} of {len(explanations)}",
    }


def _handled(attempts: Sequence[Sample], explanations: Sequence[Sample]) -> bool:
    """Whether a problem was solved in any attempt, or most of its explanations arrive at the known answer."""
    right = sum(sample.get("verdict") == "correct" for sample in explanations)
    return any(float(sample.get("pass_rate") or 0) > 0 for sample in attempts) or right > HANDLED * len(explanations)


def _look(sample: Sample) -> tuple[Any, Counter[str]]:
    """A problem's level, and the words of its question and of the turns before it, numbers by their length alone."""
    words = re.findall(r"\d+|\w+|[^\w\s]", problem_of(sample).asked)
    return sample.get("level"), Counter("0" * len(word) if word.isdigit() else word.lower() for word in words)


def _most_like(name: str, looks: Mapping[str, tuple[Any, Counter[str]]]) -> list[str]:
    """The problems of the same level whose questions are most like this one's: NEIGHBOURS, and their equals."""
    level, words = looks[name]
    likeness = {
        other: sum((words & theirs).values()) / (sum((words | theirs).values()) or 1)
        for other, (its_level, theirs) in looks.items()
        if other != name and its_level == level
    }
    ranked = sorted(likeness.values(), reverse=True)[:NEIGHBOURS]
    return [other for other, alike in likeness.items() if ranked and alike >= ranked[-1]]


CHECKS = (wrong_answers, disagreements)
