"""Learning curves of several runs: the same axes, one panel a quantity, one style a run in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import pandas as pd

from expo_lite.intervals import Estimate
from expo_lite.start import METHODS
from expo_lite.ui.line_chart import STYLES, Line, Panel, Point, panel_html
from expo_lite.ui.run_list import Run
from expo_lite.ui.run_tables import load_evaluations, load_metrics, rows_of
from expo_lite.ui.text import harmless

MOST_RUNS = STYLES
POINTS = 60
"""A line has at most so many; of a longer run, each is the mean of some steps."""
NUMBERS_SHOWN = 400
METHOD_NAMES = {"expo": "ExPO", "expert": "GRPO with expert solutions", "grpo": "GRPO"}
BY_STEP = {
    "reward_mean": ("Reward", "right attempts, of problems trained on", "", 1.0),
    "failed_groups": ("Failed problems", "of each step: all attempts wrong", "", None),
    "rescued_groups": ("Rescued problems", "of each step: learned from an explanation", "", None),
}
"""A column of metrics.jsonl: title, note, unit and top of its panel."""


@dataclass(frozen=True)
class Shown:
    """A run with its tables; `style` is its place among those that were picked."""

    run: Run
    style: int
    metrics: pd.DataFrame
    scores: pd.DataFrame

    @property
    def validation(self) -> list[dict[str, Any]]:
        """Validation scores by step, the base's at step 0 included."""
        scores = [row for row in rows_of(self.scores) if row["name"] in ("base_validation", "validation")]
        return sorted(scores, key=lambda row: row["step"])

    @property
    def last_step(self) -> int:
        """The last step of which anything is known."""
        return int(max([0, *self.metrics["step"], *self.scores["step"]]))


def show(runs: Sequence[Run]) -> list[Shown]:
    """The first `MOST_RUNS` with their tables. Raises DataError where a file is damaged."""
    chosen = runs[:MOST_RUNS]
    return [
        Shown(run, style, load_metrics(run.folder), load_evaluations(run.folder)) for style, run in enumerate(chosen)
    ]


def method_of(run: Run) -> str:
    """GRPO, ExPO, or GRPO with expert solutions."""
    return METHOD_NAMES[METHODS[run.config.explanation.source]]


def first_choice(runs: Sequence[Run]) -> list[Run]:
    """What to show before anyone has picked: the newest run, and of the same model and data one of each method."""
    if not runs:
        return []
    newest = runs[0].config
    alike = [
        r for r in runs if r.config.policy.model == newest.policy.model and r.config.data.source == newest.data.source
    ]
    by_method = {method_of(run): run for run in reversed(alike)}
    return [run for run in alike if run in by_method.values()]


def levels_of(shown: Sequence[Shown]) -> list[int]:
    """Levels that any of the runs was validated on."""
    return sorted({row["level"] for one in shown for row in one.validation})


def panels(shown: Sequence[Shown], levels: Sequence[int]) -> list[Panel]:
    """Validation pass@1 of each level, then reward, failed and rescued problems."""
    last = max((one.last_step for one in shown), default=1)
    width = bin_width(last)
    by_level = [
        Panel(
            f"Level {level}",
            "validation pass@1, 95 % interval shaded",
            " %",
            [_score_line(one, level) for one in shown],
            last,
            100.0,
        )
        for level in levels
    ]
    averaged = f"; mean of {width} steps" if width > 1 else ""
    by_step = [
        Panel(title, note + averaged, unit, [_step_line(one, name, width) for one in shown], last, top)
        for name, (title, note, unit, top) in BY_STEP.items()
    ]
    return by_level + by_step


def bin_width(last_step: int) -> int:
    """How many steps are averaged into one point."""
    return max(1, ceil(last_step / POINTS))


def _score_line(one: Shown, level: int) -> Line:
    rows = [row for row in one.validation if row["level"] == level]
    shares = [(row["step"], *(100 * row[f"pass_at_1{end}"] for end in ("", "_low", "_high"))) for row in rows]
    points = [Point(*of_step) for of_step in shares]
    return Line(one.run.name, one.style, points)


def _step_line(one: Shown, name: str, width: int) -> Line:
    bins: dict[int, list[tuple[int, float]]] = {}
    for row in rows_of(one.metrics):
        if row.get(name) is not None:
            bins.setdefault((row["step"] - 1) // width, []).append((row["step"], row[name]))
    points = [Point(*(sum(values) / len(values) for values in zip(*of_bin, strict=True))) for of_bin in bins.values()]
    return Line(one.run.name, one.style, points)


def curves_html(shown: Sequence[Shown], levels: Sequence[int]) -> str:
    """The legend, the panels, and the same numbers as a table."""
    if not shown:
        return ""
    charts = "".join(panel_html(panel) for panel in panels(shown, levels))
    return f'<div class="curves">{_legend(shown)}<div class="panels">{charts}</div>{_numbers(shown, levels)}</div>'


def _legend(shown: Sequence[Shown]) -> str:
    """One entry a run; pointing at it, or reaching it by the Tab key, dims the others in every panel."""
    entries = "".join(
        f'<li><button type="button" class="key r{one.style}"><svg viewBox="0 0 44 12" aria-hidden="true">'
        f'<line class="r{one.style}" x1="2" x2="42" y1="6" y2="6"/></svg>'
        f'<b>{"ABCDEF"[one.style]}</b> <span class="name">{harmless(one.run.name)}</span>'
        f'<span class="what">{harmless(about(one.run))}</span></button></li>'
        for one in shown
    )
    return f'<ul class="keys" aria-label="Runs shown">{entries}</ul>'


def about(run: Run) -> str:
    """A run in a few words."""
    return f"{method_of(run)} · {run.config.policy.model} · step {run.step} of {run.config.steps} · {run.state}"


def _numbers(shown: Sequence[Shown], levels: Sequence[int]) -> str:
    head = "".join(f'<th scope="col">Level {level}</th>' for level in levels)
    body = "".join(
        f'<tr><th scope="row">{"ABCDEF"[one.style]} {harmless(one.run.name)}</th><td>{step}</td>'
        + "".join(f"<td>{estimate(scores.get(level), 'pass_at_1')}</td>" for level in levels)
        + "</tr>"
        for one in shown
        for step, scores in list(_by_step(one).items())[-NUMBERS_SHOWN // len(shown) :]
    )
    return (
        "<details><summary>These curves as numbers</summary>"
        '<div class="wide" tabindex="0" role="region" aria-label="Validation scores">'
        "<table><caption>Validation pass@1 in per cent, with 95 % intervals over problems</caption>"
        f'<thead><tr><th scope="col">Run</th><th scope="col">Step</th>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div></details>"
    )


def _by_step(one: Shown) -> dict[int, dict[int, dict[str, Any]]]:
    """Validation scores by step and level."""
    found: dict[int, dict[int, dict[str, Any]]] = {}
    for row in one.validation:
        found.setdefault(row["step"], {})[row["level"]] = row
    return found


def estimate(row: Mapping[str, Any] | None, name: str) -> str:
    """A share and its interval in per cent, as tables and the terminal show it; empty without a row."""
    return "" if row is None else str(Estimate(*(row[name + end] for end in ("", "_low", "_high"))))
