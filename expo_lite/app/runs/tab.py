"""The Runs tab: learning curves, scores before and after, and samples of the runs below the app's root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api

from expo_lite.app.context import AppContext
from expo_lite.app.run_list import choices, find_run, list_runs
from expo_lite.app.runs.board import scores_html
from expo_lite.app.runs.curves import MOST_RUNS, curves_html, first_choice, levels_of, show
from expo_lite.app.runs.samples import SamplesView
from expo_lite.app.runs.tables import checked_wanted, load_metrics, load_samples, matching, part_of, rows_of
from expo_lite.app.shell import ANNOUNCED, QUIET, Shell
from expo_lite.app.text import harmless
from expo_lite.core.errors import ExpoLiteError

API_STEPS, API_SAMPLES = 1000, 100
"""Rows that one call of the API returns at most."""
CURVES_JS = Path(__file__).with_name("curves.js")
NO_RUNS = (
    '<p class="nothing">There are no runs yet. This one takes about two minutes on a CPU, and then its curves '
    "are here: <code>python -m expo_lite.train --preset tiny</code></p>"
)


def build(context: AppContext, shell: Shell) -> None:
    """Lay the tab out and wire it."""
    with gr.Column(elem_classes="asking") as place:
        with gr.Row(elem_classes="picking-runs"):
            picked = gr.Dropdown(
                [],
                multiselect=True,
                max_choices=MOST_RUNS,
                label=f"Runs, newest first (up to {MOST_RUNS} at once)",
                elem_id="runs",
                scale=4,
                min_width=260,
            )
            refresh = gr.Button("Refresh", elem_id="refresh-runs", scale=0, min_width=110)
        levels = gr.CheckboxGroup([], label="Levels", elem_id="run-levels")
    note = gr.HTML(elem_id="runs-note", js_on_load=ANNOUNCED)
    curves = gr.HTML(elem_id="curves", js_on_load=CURVES_JS.read_text(encoding="utf-8"))
    scores = gr.HTML(elem_id="scores")
    samples = SamplesView(context.root)
    train = gr.Button("Train a model now", elem_id="train-first", visible=False)
    shell.leads_to(train, "train")

    found = [picked, note, train]
    drawn = [levels, curves, scores, samples.run]
    tab = place.parent
    assert isinstance(tab, gr.Tab)  # the page builds each tab inside one
    for event in (tab.select, refresh.click):
        event(_find(context, "train" in shell.ids), picked, found, **QUIET).then(
            _draw(context), [picked, levels, samples.run], [*drawn, note], **QUIET
        ).then(samples.first_page, samples.asked, samples.shown, **QUIET)
    latest: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}  # a quick second change is not lost
    picked.input(_draw(context), [picked, levels, samples.run], [*drawn, note], **latest).then(
        samples.first_page, samples.asked, samples.shown, **QUIET
    )
    levels.input(_redraw(context), [picked, levels], [curves, note], **latest)
    api(_metrics_api(context), api_name="metrics")
    api(_samples_api(context), api_name="samples")


def _find(context: AppContext, can_train: bool) -> Callable[[list[str]], tuple[Any, str, Any]]:
    """The runs there are now; what was picked stays picked, and at first something is."""

    def find(picked: list[str]) -> tuple[Any, str, Any]:
        runs = list_runs(context.root)
        names = [run.name for run in runs]
        kept = [name for name in picked or [] if name in names]
        chosen = kept or [run.name for run in first_choice(runs)]
        note = "" if runs else NO_RUNS
        return gr.Dropdown(choices=choices(runs), value=chosen), note, gr.Button(visible=can_train and not runs)

    return find


def _draw(context: AppContext) -> Callable[..., tuple[Any, ...]]:
    """Everything that follows from the runs that were picked."""

    def draw(picked: list[str], levels: list[int], of_run: str | None) -> tuple[Any, ...]:
        picked = picked or []
        try:
            shown = show([find_run(context.root, name) for name in picked])
        except ExpoLiteError as error:
            return gr.CheckboxGroup(), "", "", gr.Dropdown(), sentence_html(str(error))
        known = levels_of(shown)
        wanted = [level for level in known if level in (levels or [])] or known
        by_level = [(f"Level {level}", level) for level in known]
        of_run = of_run if of_run in picked else next(iter(picked), None)
        note = sentence_html("Pick a run to see its curves.") if not picked and list_runs(context.root) else gr.skip()
        return (
            gr.CheckboxGroup(choices=by_level, value=wanted, visible=bool(known)),
            curves_html(shown, wanted),
            scores_html(shown) if shown else "",
            gr.Dropdown(choices=choices([one.run for one in shown]), value=of_run),
            note if note or not shown else "",
        )

    return draw


def _redraw(context: AppContext) -> Callable[[list[str], list[int]], tuple[str, Any]]:
    """The curves at other levels."""

    def redraw(picked: list[str], levels: list[int]) -> tuple[str, Any]:
        try:
            return curves_html(show([find_run(context.root, name) for name in picked or []]), sorted(levels)), gr.skip()
        except ExpoLiteError as error:
            return "", sentence_html(str(error))

    return redraw


def sentence_html(sentence: str) -> str:
    """A sentence where something else would stand."""
    return f'<p class="nothing">{harmless(sentence)}</p>'


def _metrics_api(context: AppContext) -> Callable[..., list[dict[str, Any]]]:
    def metrics(run: str, offset: int = 0, limit: int = API_STEPS) -> list[dict[str, Any]]:
        """The numbers of each step of a run, as its metrics.jsonl has them. `run` is the name of its folder.

        `offset` steps are left out, and at most `limit` (1 to 1,000) are given; none beyond the last.
        """
        try:
            steps = load_metrics(find_run(context.root, run).folder)
            return rows_of(part_of(steps, offset, limit, API_STEPS))
        except ExpoLiteError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return metrics


def _samples_api(context: AppContext) -> Callable[..., list[dict[str, Any]]]:
    def samples(
        run: str,
        kind: str = "",
        level: int = 0,
        correct: str = "",
        text: str = "",
        offset: int = 0,
        limit: int = API_SAMPLES,
    ) -> list[dict[str, Any]]:
        """A run's attempts and explanations in the order they were written.

        `kind` is rollout or explanation, `level` a level or 0, `correct` right or wrong, `text` what should occur.
        `offset` of those found are left out, and at most `limit` (1 to 100) are given; none beyond the last.
        """
        try:
            wanted = checked_wanted(kind, [level] if level else [], correct, text)
            found = matching(load_samples(find_run(context.root, run).folder), wanted)
            return rows_of(part_of(found, offset, limit, API_SAMPLES))
        except ExpoLiteError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return samples
