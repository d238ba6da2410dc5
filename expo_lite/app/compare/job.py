"""What one press of Compare asks of the model worker, and what users and the API read of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expo_lite.app.compare.board import Board, Draft
from expo_lite.app.limits import checked_answer, checked_question, checked_seed
from expo_lite.app.opening import Opening
from expo_lite.app.worker import Done, Emit, Failed, Ticket, Waiting
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem, Verdict
from expo_lite.problems import tiny_world
from expo_lite.studies.before_after import Comparer, checked_explainer
from expo_lite.studies.comparison import AFTER, BASE, BEFORE, EXPLANATION, Comparison

SECONDS_BETWEEN_DRAFTS = 0.05  # more would only be work for the browser


@dataclass(frozen=True)
class CompareQuestion:
    """A checked request: nothing in it can hurt. `model` names the adapter and is empty for the base alone."""

    problem: Problem
    adapter: Path | None
    greedy: bool
    seed: int
    model: str = ""
    explained_by: str = BASE


def checked(
    opening: Opening,
    question: object,
    answer: object,
    model: object,
    greedy: object,
    seed: object,
    explained_by: object = BASE,
) -> CompareQuestion:
    """What a user handed in. Raises DataError with a sentence. `model` is the name of an adapter, or empty."""
    adapters = opening.adapters()
    if model and model not in adapters:
        raise DataError(f"There is no trained model {str(model)[:80]!r} here.")
    problem = Problem("asked", checked_question(question), checked_answer(answer))
    adapter = adapters[str(model)] if model else None
    title = opening.titles()[str(model)] if model else ""
    by = checked_explainer(explained_by, trained=True)  # without a trained model the base does, and the board says so
    return CompareQuestion(problem, adapter, bool(greedy), checked_seed(seed), title, by)


def compare_job(asked: CompareQuestion) -> Callable[[Comparer, Emit], Comparison]:
    """The job: emits {role: Draft} while it writes, and returns the comparison."""

    def job(comparer: Comparer, emit: Emit) -> Comparison:
        if not comparer.reads_all_of(asked.problem.question):
            emit(Note("The model's tokenizer does not know every character of this question and leaves some out."))
        if asked.adapter is not None:
            comparer.use_adapter(asked.adapter)
        drafts = _Drafts(comparer, emit)
        trained = asked.adapter is not None
        return comparer.compare(asked.problem, trained, asked.seed, asked.greedy, drafts, asked.explained_by)

    return job


@dataclass(frozen=True)
class Note:
    """Something the user should know of the request."""

    sentence: str


class _Drafts:
    """Listens to the comparer; hands on what is written, the first token at once and then a few times a second."""

    def __init__(self, comparer: Comparer, emit: Emit) -> None:
        self.comparer, self.emit = comparer, emit
        self.start, self.told = time.perf_counter(), 0.0
        self.ids: dict[str, list[int]] = {}

    def __call__(self, role: str, ids: list[int]) -> None:
        self.ids[role] = ids
        now = time.perf_counter()
        if now - self.told < SECONDS_BETWEEN_DRAFTS:
            return
        self.told = now
        self.emit(
            {
                role: Draft(self.comparer.text(ids).rstrip("\N{REPLACEMENT CHARACTER}"), len(ids), now - self.start)
                for role, ids in self.ids.items()
            }
        )


def boards(ticket: Ticket, asked: CompareQuestion) -> Iterator[tuple[Board, str]]:
    """The board after each event, with a sentence on where things stand."""
    trained, explains = asked.adapter is not None, bool(asked.problem.answer)
    drafts: dict[str, Draft] = {}
    note = ""

    def board(**parts: Any) -> Board:
        known = {"trained": trained, "explains": explains, "model": asked.model, "explained_by": asked.explained_by}
        return Board(drafts, **known, **parts)

    for event in ticket.events():
        if isinstance(event, Waiting):
            others = "1 user is" if event.before == 1 else f"{event.before} users are"
            yield board(), f"{others} before you."
        elif isinstance(event, Note):
            note = f" {event.sentence}"
        elif isinstance(event, Failed):
            yield board(), event.sentence
            return
        elif isinstance(event, Done):
            yield board(comparison=event.result), f"{summary(event.result)}{note}"
            return
        else:
            drafts = event
            yield board(running=True), f"Writing, all columns at once, from one set of weights …{note}"
    if not ticket.is_silent:
        yield board(), "Stopped." if drafts else "Stopped before the first token."


UNJUDGED = (None, Verdict.TIMEOUT)


def summary(comparison: Comparison) -> str:
    """One sentence on what a finished comparison shows."""
    verdicts = {role: attempt.verdict for role, attempt in comparison.attempts.items()}
    if comparison.note and Verdict.CORRECT not in (verdicts["before"], verdicts.get("after")):
        return f"Done. {comparison.note}"
    if not comparison.problem.answer:
        return "Done. Without a known answer nothing can be judged or explained."
    if Verdict.TIMEOUT in (verdicts["before"], verdicts.get("after")):
        return "Done. An answer could not be judged in time: nothing can be said of it."
    before = verdicts["before"] is Verdict.CORRECT
    if "after" not in verdicts:
        return f"Done. The base is {'right' if before else 'wrong'}; train it to see what changes."
    after = verdicts["after"] is Verdict.CORRECT
    return {
        (False, True): "Done. Wrong before, right after: this is what the model learned from its own explanations.",
        (True, True): "Done. Right before and after: nothing was forgotten. Try a higher level.",
        (False, False): "Done. Wrong before and after: this one is still too hard.",
        (True, False): "Done. Right before, wrong after: training cost this one.",
    }[before, after]


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison in plain values, as the API gives it."""
    out: dict[str, Any] = {
        role: {
            "text": attempt.completion.text,
            "answer": attempt.answer,
            "correct": None if attempt.verdict in UNJUDGED else attempt.verdict is Verdict.CORRECT,
            "tokens": len(attempt.completion.completion_ids),
            "seconds": round(attempt.seconds, 3),
        }
        for role, attempt in comparison.attempts.items()
    }
    if likelihoods := comparison.likelihoods:
        out[EXPLANATION] |= {
            "explained_by": comparison.explained_by,
            "rejected": comparison.rejected,
            "token_likelihood_before": likelihoods[BEFORE],
            "token_likelihood_after": likelihoods.get(AFTER),
        }
    return out | ({"note": comparison.note} if comparison.note else {})


# ------------------------------------------------------------------------------------------------ picking problems


def pick(problems: dict[int, list[Problem]], level: int, place: int) -> tuple[str, str]:
    """Question and answer of a level's problem number `place`; after the last comes the first again."""
    of_level = problems[level]
    problem = of_level[place % len(of_level)]
    return problem.question, problem.answer


def known_answer(problems: dict[int, list[Problem]], question: str, of_tiny_world: bool) -> str:
    """The answer to a question as it is typed, so that no old answer judges a new question; empty if unknown."""
    question = question.strip()
    if of_tiny_world and (problem := tiny_world.parsed(question)):
        return problem.answer
    found = (p.answer for of_level in problems.values() for p in of_level if p.question.strip() == question)
    return next(found, "")


def answer_for(
    problems: dict[int, list[Problem]], question: str, answer: str, answered: str, of_tiny_world: bool
) -> str:
    """The answer to judge a pressed question by: `answer`, unless that still stands there for another question.

    `answered` is the question that the answer on the page belongs to; after a quick Enter it is the one before.
    """
    return answer if answered == question else known_answer(problems, question, of_tiny_world)
