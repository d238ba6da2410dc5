"""Test scores and records of trainings, gathered into the lines of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from expo_lite.grading.scores import ADAPTER, BASE
from expo_lite.runs import files
from expo_lite.studies.evaluate.answer_sheet import ANSWERS
from expo_lite.studies.methods.trials import StudyTrials, Trial
from expo_lite.studies.methods.variants import Variant

Counts = dict[int, npt.NDArray[np.int64]]
"""Right answers by level, (R seeds, P problems)."""


@dataclass(frozen=True)
class VariantLine:
    """One line of a table: a variant with all its seeds."""

    title: str
    trials: Sequence[Trial]

    @cached_property
    def counts(self) -> Counts:
        """The adapters' right answers."""
        return stacked([read_counts(trial.scores, ADAPTER) for trial in self.trials])

    def mean(self, name: str) -> float | None:
        """A number of the trials' outcomes, averaged over seeds; None where none has it."""
        values = [value for trial in self.trials if (value := getattr(trial.outcome, name)) is not None]
        return float(np.mean(values)) if values else None

    @property
    def steps(self) -> float:
        """Steps, averaged over seeds."""
        return float(np.mean([trial.steps for trial in self.trials]))


@dataclass(frozen=True)
class Lines:
    """The lines of every table, and the base's right answers, (1, P) by level."""

    base: Counts
    steps: list[VariantLine]
    tokens: list[VariantLine]
    ablations: list[VariantLine]

    @classmethod
    def of(cls, trained: StudyTrials) -> Lines:
        """Read what the evaluations left."""
        first = trained.scored[0]
        groups = (trained.equal_steps, trained.equal_tokens, trained.changed)
        return cls(stacked([read_counts(first.scores, BASE)]), *map(_lines, groups))


def _lines(trials: Mapping[Variant, Sequence[Trial]]) -> list[VariantLine]:
    return [VariantLine(variant.title, of_variant) for variant, of_variant in trials.items()]


def read_counts(folder: Path, model: str) -> dict[int, list[int]]:
    """Right answers of each problem by level, as an evaluation left them."""
    out: dict[int, list[int]] = {}
    for answered in files.read_jsonl(folder / ANSWERS):
        if answered["model"] == model:
            out.setdefault(answered["level"], []).append(answered["correct"])
    return out


def stacked(of_seeds: Sequence[dict[int, list[int]]]) -> Counts:
    """Counts by level with a row per seed."""
    return {level: np.array([of_seed[level] for of_seed in of_seeds]) for level in sorted(of_seeds[0])}


def forgetting(counts: Counts, base: Counts, samples: int) -> float:
    """The most that a level's pass@1 lies below the base's; 0 where none does."""
    return max(0.0, *(float(base[level].mean() - counts[level].mean()) / samples for level in base))
