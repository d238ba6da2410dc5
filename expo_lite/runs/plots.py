"""Learning curves of a run folder, results of an evaluation, and the two properties of texts, as PNGs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from expo_lite.core import charts
from expo_lite.core.charts import level_colour
from expo_lite.grading.scores import ADAPTER, BASE, LevelResult
from expo_lite.runs.diagnosis.evidence import Evidence, Step
from expo_lite.runs.history import validations
from expo_lite.runs.plot_style import PER_CENT, Series, curves, picture, smoothed, whole_steps, window

MODELS = {BASE: (charts.BASE, "s", "--"), ADAPTER: (charts.ACCENT, "o", "-")}
KINDS = (  # as studies/properties calls them: colour, marker, dash
    ("self-explanation", charts.ACCENT, "o", "-"),
    ("expert solution", charts.BASE, "s", "--"),
    ("own wrong attempt", charts.WRONG, "X", ":"),
    ("own right attempt", charts.RIGHT, "D", "-."),
)


def plot_learning_curves(run: Evidence, path: Path) -> None:
    """Validation pass@1 by level, and what became of each step's problems and explanations."""
    explained = any(record.get("explanations_written") for record in run.metrics)
    with picture(path, 3 if explained else 2) as panels:
        plot_levels(panels[0], validations(run.evaluations))
        plot_groups(panels[1], run.metrics)
        if explained:
            plot_explanations(panels[2], run.metrics)


def plot_levels(axes: Axes, scored: Mapping[int, Mapping[int, Mapping[str, Any]]]) -> None:
    """One line a level, with its interval shaded, of scores by step and level."""
    levels = sorted({level for scores in scored.values() for level in scores})
    axes.set(title="Held-out problems solved (pass@1, %)", xlabel="step", ylim=PER_CENT)
    whole_steps(axes)
    found = {n: [(step, scores[n]["pass_at_1"]) for step, scores in scored.items() if n in scores] for n in levels}
    curves(
        axes,
        [
            Series(
                f"level {level}",
                level_colour(index, len(levels)),
                [(step, *(100 * e[end] for end in ("mean", "low", "high"))) for step, e in found[level]],
            )
            for index, level in enumerate(levels)
        ],
        unit=" %",
    )


def plot_groups(axes: Axes, records: Sequence[Step]) -> None:
    """What became of each step's problems."""
    titled(axes, "Problems per step", len(records))
    smoothed(
        axes,
        [record["step"] for record in records],
        [
            ("failed", charts.WRONG, "--", counted(records, "failed_groups")),
            ("rescued", charts.ACCENT, "-", counted(records, "rescued_groups")),
            ("mixed", charts.BASE, "-.", counted(records, "mixed_groups")),
            ("solved", charts.RIGHT, "-", counted(records, "solved_groups")),
        ],
    )


def plot_explanations(axes: Axes, records: Sequence[Step]) -> None:
    """How many are written and how many accepted; where steps can be checked, how many with a wrong one are trained on.

    Counts and no shares: late in a run a step has few, and a share of few is noise.
    """
    titled(axes, "Explanations per step", len(records))
    series = [
        ("written", charts.BASE, "-.", counted(records, "explanations_written")),
        ("accepted", charts.RIGHT, "-", counted(records, "explanations_accepted")),
    ]
    if any("explanations_trained_wrong_steps" in record for record in records):
        series.append(
            ("trained, a step wrong", charts.WRONG, "--", counted(records, "explanations_trained_wrong_steps", 0.0))
        )
    smoothed(axes, [record["step"] for record in records], series)


def counted(records: Sequence[Step], name: str, missing: float = math.nan) -> list[float]:
    """A count by step, `missing` where there is none."""
    return [missing if record.get(name) is None else float(record[name]) for record in records]


def titled(axes: Axes, title: str, steps: int) -> None:
    """The title with how far its curves are smoothed."""
    width = window(steps)
    axes.set(title=title, xlabel=f"step (lines: means of {width})" if width > 1 else "step")
    whole_steps(axes)


def plot_results(results: Sequence[LevelResult], path: Path) -> None:
    """A panel for each k: pass@k by level, base beside adapter, with intervals."""
    ks = list(next(iter(results[0].pass_at.values())))
    with picture(path, len(ks)) as panels:
        for axes, k in zip(panels, ks, strict=True):
            plot_pass_at(axes, results, k)


def plot_pass_at(axes: Axes, results: Sequence[LevelResult], k: int) -> None:
    """pass@k of each level and model."""
    axes.set(title=f"Test problems solved (pass@{k}, %)", ylim=PER_CENT)
    series = []
    for model in results[0].pass_at:
        scores = [(result.level, result.pass_at[model][k]) for result in results]
        colour, marker, dash = MODELS[model]
        points = [(level, 100 * e.mean, 100 * e.low, 100 * e.high) for level, e in scores]
        series.append(Series(model, colour, points, marker, dash))
    by_level(axes, series, [result.level for result in results], " %")


def plot_properties(rows: list[dict], path: Path) -> None:
    """Negative log-likelihood per token, and log pi(a* | q, c), by level and kind of text, from `MeanReading`s.

    A column for each side: the base, and the trained model.
    """
    sides = list(dict.fromkeys(row["side"] for row in rows))
    measures = {
        "nll_nats_per_token": "How unlikely a text is without the hint\n(nats per token",
        "answer_logprob_nats": "How likely the true answer is after it\n(log π(a* | q, c), nats",
    }
    with picture(path, len(sides), len(measures)) as panels:
        for number, (measure, title) in enumerate(measures.items()):
            of_measure = [row for row in rows if row["measure"] == measure and row["level"] is not None]
            ends = [row[end] for row in of_measure for end in ("low", "high")] or [0.0]
            room = 0.05 * (max(ends) - min(ends) or 1)
            for axes, side in zip(panels[number * len(sides) :], sides, strict=False):
                axes.set(title=f"{title}; {side})", ylim=(min(ends) - room, max(ends) + room))
                plot_kinds(axes, [row for row in of_measure if row["side"] == side])


def plot_kinds(axes: Axes, rows: list[dict]) -> None:
    """A line by level with its interval for each kind."""
    series = [
        Series(kind, colour, [(r["level"], r["mean"], r["low"], r["high"]) for r in rows if r["kind"] == kind], *shape)
        for kind, colour, *shape in KINDS
    ]
    by_level(axes, series, sorted({row["level"] for row in rows}), digits=2)


def by_level(axes: Axes, series: Sequence[Series], levels: Sequence[int], unit: str = "", digits: int = 0) -> None:
    """Lines over levels."""
    axes.set(xlabel="level", xticks=levels)
    curves(axes, series, unit, digits)
