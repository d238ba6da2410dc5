"""Texts that were read by a model -> means with intervals by kind and level, as plain rows, tables and Markdown.

Property 1 of the paper (in-distribution, arXiv 2507.02834, figure 2) is the negative log-likelihood per token of a text
under the unhinted prompt; property 2 (positive signal, table 1) is log pi(a* | q, c), the log-probability of the true
answer after the question and the text's chain of thought c.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from expo_lite.core.records import Completion, Problem
from expo_lite.core.tables import TextTable
from expo_lite.grading.intervals import Estimate, mean_interval, share_interval

SELF, EXPERT, WRONG, RIGHT = "self-explanation", "expert solution", "own wrong attempt", "own right attempt"
KINDS = (SELF, EXPERT, WRONG, RIGHT)
BASE, TRAINED = "base", "trained"
NLL, ANSWER = "nll_nats_per_token", "answer_logprob_nats"
STEPS_RIGHT, STEPS_WRONG = "every_step_right_share", "right_answer_wrong_step_share"


@dataclass(frozen=True)
class Text:
    """One text on a problem; `right` says that its final answer is the true one."""

    kind: str
    problem: Problem
    completion: Completion
    right: bool


@dataclass(frozen=True)
class Reading:
    """What a text is to the model, in nats; `answer_logprob` is None without a final answer.

    `steps_right`: whether every step is right, None where nobody can tell.
    """

    text: Text
    nll_per_token: float
    answer_logprob: float | None
    steps_right: bool | None


@dataclass(frozen=True)
class MeanReading:
    """A measure's mean over the problems of one level (None: of all) with its 95 % bootstrap interval.

    A problem counts once: its texts of this kind are averaged first. `side` is BASE or TRAINED.
    """

    side: str
    measure: str
    kind: str
    level: int | None
    problems: int
    texts: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """How a measure is called, what it is of a reading (None: not in it), how its estimates are written and made."""

    title: str
    of: Callable[[Reading], float | None]
    shown: Callable[[MeanReading], str]
    interval: Callable[[Sequence[float]], Estimate]


def in_nats(row: MeanReading) -> str:
    """`0.05 [0.04, 0.06]`, or `-34.4 [-35.8, -33.0]`."""
    digits = 2 if max(abs(row.low), abs(row.high)) < 10 else 1
    mean, low, high = (f"{round(value, digits) + 0.0:.{digits}f}" for value in (row.mean, row.low, row.high))  # no -0.0
    return f"{mean} [{low}, {high}]"


def in_per_cent(row: MeanReading) -> str:
    """`95 [93, 97]`."""
    return str(Estimate(row.mean, row.low, row.high))


def every_step_right(reading: Reading) -> float | None:
    """1 or 0 for an explanation whose steps can be told, else None."""
    told = reading.steps_right is not None and reading.text.kind == SELF
    return float(bool(reading.steps_right)) if told else None


def right_by_wrong_steps(reading: Reading) -> float | None:
    """1 for an explanation that arrives at the right answer by a wrong step, 0 for another whose steps can be told."""
    right = every_step_right(reading)
    return None if right is None else float(reading.text.right and not right)


MEASURES = {
    NLL: Measure(
        "Property 1: negative log-likelihood per token, nats", lambda r: r.nll_per_token, in_nats, mean_interval
    ),
    ANSWER: Measure(
        "Property 2: log pi(a* | q, c) of the true answer, nats", lambda r: r.answer_logprob, in_nats, mean_interval
    ),
    STEPS_RIGHT: Measure("Self-explanations with every step right, %", every_step_right, in_per_cent, share_interval),
    STEPS_WRONG: Measure(
        "Self-explanations right by a wrong step, %", right_by_wrong_steps, in_per_cent, share_interval
    ),
}


def summarise(readings: Sequence[Reading], side: str) -> list[MeanReading]:
    """The rows of every measure, kind and level that has a text."""
    levels = [*sorted({r.text.problem.level for r in readings}), None]
    cells = ((measure, kind, level) for measure in MEASURES for kind in KINDS for level in levels)
    rows = (summary(readings, side, *cell) for cell in cells)
    return [row for row in rows if row is not None]


def summary(readings: Sequence[Reading], side: str, measure: str, kind: str, level: int | None) -> MeanReading | None:
    """One row; None where no text has a value."""
    of_problems: defaultdict[str, list[float]] = defaultdict(list)
    for reading in readings:
        problem, value = reading.text.problem, MEASURES[measure].of(reading)
        if value is not None and reading.text.kind == kind and level in (None, problem.level):
            of_problems[problem.id].append(value)
    if not of_problems:
        return None
    estimate = MEASURES[measure].interval([sum(values) / len(values) for values in of_problems.values()])
    texts = sum(map(len, of_problems.values()))
    return MeanReading(side, measure, kind, level, len(of_problems), texts, estimate.mean, estimate.low, estimate.high)


def unanswered(readings: Sequence[Reading]) -> list[str]:
    """A note on each kind that has texts without a final answer."""
    texts = Counter(r.text.kind for r in readings)
    missing = Counter(r.text.kind for r in readings if r.answer_logprob is None)
    return [
        f"{missing[kind]} of {texts[kind]} {kind}s have no final answer and are not in log pi(a* | q, c)."
        for kind in KINDS
        if missing[kind]
    ]


# ----------------------------------------------------------------------------------------------------------- shown


def tables(rows: Sequence[MeanReading]) -> list[TextTable]:
    """One for each measure and side; a cell without any text is "-"."""
    levels = [*sorted({row.level for row in rows if row.level is not None}), None]
    heads = ["", *(f"L{level}" if level is not None else "all" for level in levels)]
    found = []
    for measure, side in dict.fromkeys((row.measure, row.side) for row in rows):
        kinds = [kind for kind in KINDS if any((row.measure, row.kind) == (measure, kind) for row in rows)]
        shown = {(r.kind, r.level): MEASURES[measure].shown(r) for r in rows if (r.measure, r.side) == (measure, side)}
        lines = [[kind, *(shown.get((kind, level), "-") for level in levels)] for kind in kinds]
        found.append(TextTable(f"{MEASURES[measure].title} ({side})", heads, lines, words=(0,)))
    return found


def markdown(rows: Sequence[MeanReading], subject: str, notes: Sequence[str]) -> str:
    """The tables as Markdown, after what was measured and with what was left out."""
    about = f"# The two properties: {subject}\n\nMeans with 95 % bootstrap intervals over problems.\n"
    left_out = "".join(f"* {note}\n" for note in notes)
    return "\n".join([about, *(table.section() for table in tables(rows)), *([left_out] if notes else [])])
