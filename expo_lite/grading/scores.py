"""Answers of the base and of its adapter -> scores by level, side by side, as a table and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from expo_lite.core.records import Answered
from expo_lite.core.tables import TextTable
from expo_lite.grading.evaluator import by_level
from expo_lite.grading.intervals import Estimate, paired_difference, seed_and_problem_interval

BASE, ADAPTER = "base", "adapter"


@dataclass(frozen=True)
class LevelResult:
    """One level: pass@k by model and k, the adapter's minus the base's by k, and the share of samples cut off."""

    level: int
    problems: int
    samples: int
    pass_at: dict[str, dict[int, Estimate]]
    truncated_share: dict[str, float]
    difference: dict[int, Estimate]


def level_results(answers: Mapping[str, Sequence[Answered]], ks: Sequence[int]) -> list[LevelResult]:
    """Results by level, easiest first, of models that answered the same problems in the same order."""
    models = {model: by_level(answered) for model, answered in answers.items()}
    levels = next(iter(models.values()))
    return [_of_level({model: of_model[level] for model, of_model in models.items()}, ks) for level in levels]


def _of_level(answers: Mapping[str, Sequence[Answered]], ks: Sequence[int]) -> LevelResult:
    first = next(iter(answers.values()))
    level, samples = first[0].level, first[0].samples
    counts = {model: np.array([[a.correct for a in answered]]) for model, answered in answers.items()}  # (1, P)
    cut = {model: sum(a.truncated for a in answered) for model, answered in answers.items()}
    return LevelResult(
        level,
        len(first),
        samples,
        {model: {k: seed_and_problem_interval(c, samples, k) for k in ks} for model, c in counts.items()},
        {model: total / (samples * len(first)) for model, total in cut.items()},
        {k: paired_difference(counts[ADAPTER], counts[BASE], samples, k) for k in ks} if len(counts) > 1 else {},
    )


def results_table(results: Sequence[LevelResult], title: str) -> TextTable:
    """A row for each level and k, in per cent; what was cut off for each model."""
    first = results[0]
    ks = list(next(iter(first.pass_at.values())))
    rows = []
    for result in results:
        cut = " / ".join(f"{100 * share:.0f}" for share in result.truncated_share.values())
        for k in ks:
            scores = [str(of_model[k]) for of_model in result.pass_at.values()]
            difference = [signed(result.difference[k])] if result.difference else []
            rows.append([f"{result.level} ({result.problems})", str(k), *scores, *difference, cut])
    heads = ["level (problems)", "pass@", *first.pass_at, *(["difference"] if first.difference else []), "cut off"]
    ruled = range(len(ks), len(rows), len(ks)) if len(ks) > 1 else ()
    return TextTable(title, heads, rows, ruled=ruled, keys=2)


def signed(estimate: Estimate) -> str:
    """A difference of two shares in per cent, with its sign."""
    return "{:+.0f} [{:+.0f}, {:+.0f}]".format(*(100 * x for x in (estimate.mean, estimate.low, estimate.high)))


def caption(results: Sequence[LevelResult], temperature: float) -> str:
    """What the numbers are."""
    samples = results[0].samples
    return f"{samples} samples a problem at temperature {temperature:g}; % with 95 % intervals over problems"
