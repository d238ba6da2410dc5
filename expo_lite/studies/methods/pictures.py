"""The picture of a comparison: learning on the hardest levels, and scores by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from expo_lite.core import charts
from expo_lite.grading.intervals import Estimate, seed_and_problem_interval
from expo_lite.grading.scores import BASE
from expo_lite.runs.plot_style import PER_CENT, Series, curves, picture, whole_steps
from expo_lite.studies.methods.lines import Counts, VariantLine

PITCH = 1.7  # from one level to the next, where 1 is from 0 to 100 %
HARDEST = 2  # levels whose mean the curves show
MARKERS, DASHES = "osD^vPX*", ("-", "--", "-.", ":")


def plot_comparison(lines: Sequence[VariantLine], base: Counts, samples: int, k: int, path: Path) -> None:
    """Above: validation pass@1 of the hardest levels against steps. Below: test pass@k, a panel for each level."""
    counts = {BASE: base, **{line.title: line.counts for line in lines}}
    scores = {
        title: {level: seed_and_problem_interval(of_level, samples, k) for level, of_level in found.items()}
        for title, found in counts.items()
    }
    with picture(path, 1, 2, panel=(11.5, 3.3)) as (above, below):
        named = " and ".join(map(str, list(base)[-HARDEST:]))
        above.set(title=f"Validation, level {named} (pass@1, %; bands: all seeds)", xlabel="step", ylim=PER_CENT)
        whole_steps(above)
        curves(above, [curve(line, number) for number, line in enumerate(lines)], unit=" %")
        plot_scores(below, scores, k)


def plot_test_scores(scores: Mapping[str, Mapping[int, Estimate]], k: int, path: Path) -> None:
    """Test pass@k alone, by title and level."""
    with picture(path, 1, panel=(9.5, 0.7 + 0.3 * len(scores))) as (axes,):
        plot_scores(axes, scores, k)


def look(number: int) -> tuple[str, str, str]:
    """Colour, marker and dash of the method with this number: told apart without colour, too."""
    return charts.SERIES[number % len(charts.SERIES)], MARKERS[number % len(MARKERS)], DASHES[number % len(DASHES)]


def curve(line: VariantLine, number: int) -> Series:
    """The mean over seeds, with a band from the lowest to the highest."""
    of_seeds = [trial.outcome.curve for trial in line.trials]
    steps = sorted(set.intersection(*(set(of_seed) for of_seed in of_seeds)))
    hardest = sorted(of_seeds[0][steps[0]])[-HARDEST:]
    values = np.array([[100 * np.mean([of_seed[step][n] for n in hardest]) for step in steps] for of_seed in of_seeds])
    points = list(zip(steps, *(map(float, of(axis=0)) for of in (values.mean, values.min, values.max)), strict=True))
    return Series(line.title, *look(number)[:1], points, *look(number)[1:])


def plot_scores(axes: Axes, scores: Mapping[str, Mapping[int, Estimate]], k: int) -> None:
    """A row for each method, base first, and a column for each level: a dot with its interval, and the number."""
    levels = list(next(iter(scores.values())))
    for row, (title, by_level) in enumerate(scores.items()):
        colour, marker, _ = (charts.BASE, "o", "") if title == BASE else look(row - 1)
        for column, level in enumerate(levels):
            estimate, left = by_level[level], PITCH * column
            axes.plot([left, left + 1], [row, row], color=charts.GRID, linewidth=1, zorder=1)
            axes.hlines(row, left + estimate.low, left + estimate.high, color=colour, linewidth=5, alpha=0.3)
            axes.plot(left + estimate.mean, row, color=colour, marker=marker, markersize=6)
            axes.text(left + 1.1, row, f"{100 * estimate.mean:.0f}", va="center", color=charts.INK)
    axes.set(title=f"Test problems solved (pass@{k}, %; bars: 95 % intervals)", ylim=(len(scores) - 0.4, -0.6))
    axes.set_yticks(range(len(scores)), list(scores), color=charts.INK)
    ends = [PITCH * column + end for column in range(len(levels)) for end in (0, 0.5, 1)]
    names = [name for level in levels for name in ("0", f"50\nlevel {level}", "100")]
    axes.set_xticks(ends, names)
    axes.grid(False)
