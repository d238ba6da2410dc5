"""What a check is given, what it answers, and how it reads numbers that may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal

from expo_lite.config.settings import Config
from expo_lite.core.records import Problem, Turn

MOSTLY, SOME = 0.5, 0.05
EXAMPLE = 400  # characters shown of a sample

Severity = Literal["good", "serious", "warning", "note"]
Step = Mapping[str, Any]
"""A line of metrics.jsonl."""


@dataclass(frozen=True)
class Finding:
    """One thing that a run's records show, in a sentence, with the setting to change.

    `cases` are the rows behind it: samples, or problems with their answers.
    """

    name: str
    severity: Severity
    sentence: str
    setting: str | None = None
    cases: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Evidence:
    """A run's records. `held`: a process has its folder; `silence`: seconds since its last sign of life, if any."""

    config: Config
    metrics: Sequence[Step] = ()
    evaluations: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Mapping[str, Any]] = ()
    folder: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)
    held: bool = True
    silence: float = 0.0

    @property
    def recent(self) -> Sequence[Step]:
        """The last steps, which shares are taken over: since a validation ago, or the last quarter of a long run."""
        return self.metrics[-max(self.config.evaluation.every, len(self.metrics) // 4) :]

    @property
    def is_dpo(self) -> bool:
        """Whether the run learns from pairs instead of advantages."""
        return self.config.objective.name == "dpo"

    def explanations(self) -> list[Mapping[str, Any]]:
        """The explanations among the samples."""
        return [sample for sample in self.samples if sample.get("kind") == "explanation"]


def values(steps: Sequence[Step], name: str) -> list[float]:
    """The numbers of the steps that have one: quantities without tokens are left out, those not finite are null."""
    found = (step.get(name) for step in steps)
    return [float(value) for value in found if isinstance(value, (int, float))]


def total(steps: Sequence[Step], name: str) -> float:
    """Sum over steps; a missing number counts as 0."""
    return sum(values(steps, name))


def mean(steps: Sequence[Step], name: str) -> float:
    """Mean over the steps that have the number; 0 if none has."""
    return average(values(steps, name))


def average(numbers: Sequence[float]) -> float:
    """Their mean; 0 if there are none."""
    return fmean(numbers) if numbers else 0.0


def signal(step: Step) -> float:
    """How much a step had to learn from: groups and explanations, or in DPO the pairs made of both."""
    return total([step], "pairs") if "pairs" in step else total([step], "groups_with_signal") + trained(step)


def trained(step: Step) -> float:
    """Explanations trained on."""
    return total([step], "explanations_trained")


def has_signal(steps: Sequence[Step]) -> bool:
    """Whether any step had something to learn from."""
    return any(signal(step) for step in steps)


def groups(steps: Sequence[Step]) -> float:
    """Problems attempted."""
    return sum(total(steps, f"{kind}_groups") for kind in ("failed", "mixed", "solved"))


def problem_of(sample: Mapping[str, Any]) -> Problem:
    """The problem of a record of samples.jsonl, as far as that holds it."""
    name, question, answer = (str(sample.get(part, "")) for part in ("problem", "question", "answer"))
    return Problem(name, question, answer, turns=tuple(Turn(**turn) for turn in sample.get("turns", ())))


def sample_case(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What a sample was asked, and the end of its text: there it is seen why it was turned down."""
    text = str(sample.get("text", ""))
    tail = text if len(text) <= EXAMPLE else f"… {text[-EXAMPLE:]}"
    names = ("question", "answer") if "question" in sample else ("problem",)
    return {"step": sample.get("step"), **{name: str(sample.get(name))[:EXAMPLE] for name in names}, "text": tail}
