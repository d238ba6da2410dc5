"""Learning curves of several runs: the same axes, one panel a quantity, one style a run in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import pandas as pd

from expo_lite.app.chart import Axes, Curve, chart_html, numbers_table, skeleton_html, ticks
from expo_lite.app.run_list import Run, method_of, to_open
from expo_lite.app.runs.tables import load_evaluations, load_metrics
from expo_lite.app.text import harmless
from expo_lite.runs.history import validations

LETTERS = "ABCDEF"
"""What stands at the ends of the runs' lines; style.css has as many colours and dashes."""
MOST_RUNS = len(LETTERS)
POINTS = 60
"""A line has at most so many; of a longer run, each is the mean of some steps."""
NUMBERS_SHOWN = 400
SCORE_NOTE = "validation pass@1, 95 % interval shaded"
BY_STEP = {
    "reward_mean": ("Reward", "right attempts, of problems trained on", 1.0),
    "failed_groups": ("Failed problems", "of each step: all attempts wrong", None),
    "rescued_groups": ("Rescued problems", "of each step: learned from an explanation", None),
}
"""A column of metrics.jsonl: title, note and top of its chart. One that no run has is left out."""


TO_COME = "reward, failed and rescued problems come with the first step"


@dataclass(frozen=True)
class PickedRun:
    """A run with its tables; `style` is its place among those that were picked."""

    run: Run
    style: int
    metrics: pd.DataFrame
    scores: list[dict[str, Any]]

    @property
    def letter(self) -> str:
        """What stands for it in every chart and table."""
        return LETTERS[self.style]

    @property
    def validations(self) -> dict[int, dict[int, Mapping[str, Any]]]:
        """Validation scores by step and level, the base's at step 0 included."""
        return validations(self.scores)

    @property
    def last_step(self) -> int:
        """The last step of which anything is known."""
        return int(max([0, *self.metrics["step"], *(record["step"] for record in self.scores)]))


def show(runs: Sequence[Run]) -> list[PickedRun]:
    """The first `MOST_RUNS` with their tables. Raises DataError where a file is damaged."""
    chosen = runs[:MOST_RUNS]
    return [
        PickedRun(run, style, load_metrics(run.folder), load_evaluations(run.folder))
        for style, run in enumerate(chosen)
    ]


def first_choice(runs: Sequence[Run]) -> list[Run]:
    """What to show before anyone has picked: the run that the page opens, and beside it one of each other method.

    They are of the same model and data, newest first.
    """
    opened = to_open(runs)
    if opened is None:
        return []
    newest = opened.config
    alike = [
        r for r in runs if r.config.policy.model == newest.policy.model and r.config.data.source == newest.data.source
    ]
    by_method = {method_of(run.config).name: run for run in reversed([opened, *alike])}
    return [opened, *(run for run in alike if run in by_method.values() and run is not opened)]


def levels_of(shown: Sequence[PickedRun]) -> list[int]:
    """Levels that any of the runs was validated on."""
    return sorted({level for one in shown for scores in one.validations.values() for level in scores})


@dataclass(frozen=True)
class Panel:
    """One chart of all runs."""

    title: str
    note: str
    lines: Sequence[Curve]
    axes: Axes


def panels(shown: Sequence[PickedRun], levels: Sequence[int]) -> list[Panel]:
    """Validation pass@1 of each level, then reward, failed and rescued problems, where a run records them."""
    last = max([1, *(one.last_step for one in shown)])
    shares = Axes(last, 100.0, (0, 50, 100), lambda share: f"{number(share)} %")
    by_level = [Panel(f"Level {n}", SCORE_NOTE, [_score_line(one, n) for one in shown], shares) for n in levels]
    width = bin_width(last)
    by_step = [_step_panel(shown, name, last, width) for name in BY_STEP]
    return by_level + [panel for panel in by_step if any(line.points for line in panel.lines)]


def _step_panel(shown: Sequence[PickedRun], name: str, last: int, width: int) -> Panel:
    title, note, top = BY_STEP[name]
    lines = [_step_line(one, name, width) for one in shown]
    highest = max((value for line in lines for _, value in line.points), default=1.0)
    marks = ticks(top or max(highest, 1e-9))
    averaged = f"; mean of {width} steps" if width > 1 else ""
    return Panel(title, note + averaged, lines, Axes(last, marks[-1], marks, number))


def number(value: float) -> str:
    """A value with three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def bin_width(last_step: int) -> int:
    """How many steps are averaged into one point."""
    return max(1, ceil(last_step / POINTS))


def _score_line(one: PickedRun, level: int) -> Curve:
    scores = [(step, of[level]["pass_at_1"]) for step, of in one.validations.items() if level in of]
    intervals = [(step, 100 * score.low, 100 * score.high) for step, score in scores]
    return _line(one, [(step, 100 * score.mean) for step, score in scores], True, intervals)


def _step_line(one: PickedRun, name: str, width: int) -> Curve:
    known = one.metrics.reindex(columns=["step", name]).dropna()
    means = known.groupby((known["step"] - 1) // width).agg("mean")
    return _line(one, list(means.itertuples(index=False, name=None)))


def _line(
    one: PickedRun,
    points: Sequence[tuple[float, float]],
    dots: bool = False,
    intervals: Sequence[tuple[float, float, float]] = (),
) -> Curve:
    return Curve(one.letter, f"r{one.style}", points, dots, intervals, f"{one.letter} {one.run.name}")


def curves_html(shown: Sequence[PickedRun], levels: Sequence[int]) -> str:
    """The legend, the panels, and the same numbers as a table."""
    if not shown:
        return ""
    charts = "".join(chart_html(p.title, p.note, p.lines, p.axes, "h4", read=True) for p in panels(shown, levels))
    if not any(len(one.metrics) for one in shown):
        charts += skeleton_html("Every step", TO_COME, "h4")
    return (
        f'<div class="curves"><h3>Learning curves</h3>{_legend(shown)}<div class="panels">{charts}</div>'
        f"{_numbers(shown, levels)}</div>"
    )


def _legend(shown: Sequence[PickedRun]) -> str:
    """One entry a run; pointing at it, or reaching it by the Tab key, dims the others in every panel."""
    entries = "".join(
        f'<li><button type="button" class="key r{one.style}"><svg viewBox="0 0 44 12" aria-hidden="true">'
        f'<line class="r{one.style}" x1="2" x2="42" y1="6" y2="6"/></svg>'
        f'<b>{one.letter}</b> <span class="name">{harmless(one.run.name)}</span>'
        f'<span class="what">{harmless(about(one.run))}</span></button></li>'
        for one in shown
    )
    return f'<ul class="keys" aria-label="Runs shown">{entries}</ul>'


def about(run: Run) -> str:
    """A run in a few words."""
    config = run.config
    return f"{method_of(config).name} · {config.policy.model} · step {run.step} of {config.steps} · {run.state}"


def _numbers(shown: Sequence[PickedRun], levels: Sequence[int]) -> str:
    body = "".join(
        f'<tr><th scope="row">{one.letter} {harmless(one.run.name)}</th><td>{step}</td>'
        + "".join(f"<td>{estimate(scores.get(level), 'pass_at_1')}</td>" for level in levels)
        + "</tr>"
        for one in shown
        for step, scores in list(one.validations.items())[-NUMBERS_SHOWN // len(shown) :]
    )
    heads = ["Run", "Step", *(f"Level {level}" for level in levels)]
    caption = "Validation pass@1 in per cent, with 95 % intervals over problems"
    table = numbers_table("Validation scores", heads, f"<tbody>{body}</tbody>", caption)
    return f"<details><summary>These curves as numbers</summary>{table}</details>"


def estimate(score: Mapping[str, Any] | None, name: str) -> str:
    """A share and its interval in per cent, as tables and the terminal show it; empty without a score."""
    return "" if score is None else str(score[name])
