"""The picture of a comparison: learning on the hardest levels, scores by level, and whether explanations are sound."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from expo_lite.grading.intervals import seed_and_problem_interval
from expo_lite.studies.methods.lines import Counts, VariantLine

HARDEST = 2  # levels whose mean the curves show
WINDOW = 10  # steps that the share of sound explanations is a mean of; a single step has few
COLORS = colormaps["tab10"].colors  # type: ignore[attr-defined]


def plot_comparison(lines: Sequence[VariantLine], base: Counts, samples: int, k: int, path: Path) -> None:
    """Left: validation pass@1 of the hardest levels against steps. Middle: test pass@k by level.

    Right, where steps can be checked: the share of explanations with a right answer whose every step is right.
    """
    checked = any(trial.outcome.steps_right for line in lines for trial in line.trials)
    figure = Figure(figsize=(12 + 5 * checked, 4.2), layout="constrained")
    panels = figure.subplots(1, 2 + checked)
    left, right = panels[:2]
    for number, line in enumerate(lines):
        plot_curve(left, line, COLORS[number % len(COLORS)])
        if checked:
            plot_soundness(panels[2], line, COLORS[number % len(COLORS)])
    named = " and ".join(map(str, list(base)[-HARDEST:]))
    left.set(title=f"Validation on level {named}", xlabel="step", ylabel="pass@1 (%)", ylim=(-2, 102))
    plot_scores(right, lines, base, samples, k)
    figure.legend(*right.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=120)


def plot_curve(axes: Axes, line: VariantLine, color: str) -> None:
    """The mean over seeds, shaded from the lowest to the highest."""
    curves = [trial.outcome.curve for trial in line.trials]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    hardest = sorted(curves[0][steps[0]])[-HARDEST:]
    values = np.array([[100 * np.mean([curve[step][n] for n in hardest]) for step in steps] for curve in curves])
    axes.plot(steps, values.mean(0), color=color, marker=".", label=line.title)
    axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)


def plot_soundness(axes: Axes, line: VariantLine, color: str) -> None:
    """Means over `WINDOW` steps and all seeds, at the windows' ends."""
    shares: defaultdict[int, list[float]] = defaultdict(list)
    for trial in line.trials:
        for step, share in trial.outcome.steps_right.items():
            shares[math.ceil(step / WINDOW) * WINDOW].append(100 * share)
    if line.trials[0].outcome.config.explanation.source == "self":
        axes.plot(sorted(shares), [np.mean(shares[end]) for end in sorted(shares)], color=color, marker=".")
    axes.set(title="Explanations with a right answer: every step right (%)", xlabel="step", ylim=(-2, 102))


def plot_scores(axes: Axes, lines: Sequence[VariantLine], base: Counts, samples: int, k: int) -> None:
    """Bars by level, base first, with intervals."""
    bars = [("base", base, "lightgray"), *((line.title, line.counts, COLORS[n % 10]) for n, line in enumerate(lines))]
    width = 0.85 / len(bars)
    for number, (title, counts, color) in enumerate(bars):
        estimates = [seed_and_problem_interval(counts[level], samples, k) for level in base]
        below_and_above = [[100 * (e.mean - e.low) for e in estimates], [100 * (e.high - e.mean) for e in estimates]]
        places = np.arange(len(base)) + (number - (len(bars) - 1) / 2) * width
        heights = [100 * e.mean for e in estimates]
        axes.bar(places, heights, 0.95 * width, yerr=below_and_above, color=color, label=title, error_kw={"lw": 0.8})
    axes.set(title=f"Test pass@{k}", xticks=range(len(base)), ylim=(0, 105))
    axes.set_xticklabels([f"level {level}" for level in base])
