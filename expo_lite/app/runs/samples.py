"""The Runs tab's table of samples: filters, pages, and one sample in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from expo_lite.app.run_list import find_run
from expo_lite.app.runs.board import sample_html, samples_html
from expo_lite.app.runs.tables import LONGEST_SEARCH, Wanted, checked_wanted, load_samples, matching, page_of, rows_of
from expo_lite.app.shell import ANNOUNCED, QUIET
from expo_lite.app.text import DELIMITERS, harmless
from expo_lite.core.errors import ExpoLiteError

PICK_A_ROW = "Press a row to read all of it here."
NO_SAMPLES = "No samples yet: a run writes them at each step."
TELL_ROW = """
element.addEventListener('click', event => {
  const row = event.target.closest('[data-row]')
  if (!row) return
  element.querySelectorAll('[aria-current]').forEach(other => other.removeAttribute('aria-current'))
  row.setAttribute('aria-current', 'true')
  trigger('select', { row: Number(row.dataset.row) })
})
"""
INTO_VIEW = "() => document.querySelector('#sample')?.scrollIntoView({ block: 'nearest' })"


class SamplesView:
    """Laid out where it is made. `asked` and `shown` are what `first_page` takes and gives."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with gr.Column(elem_classes="asking samples-part"):
            gr.HTML("<h3>Samples</h3>", elem_id="samples-title")
            self._lay_out_filters()
        self.count = gr.HTML(elem_id="samples-count", js_on_load=ANNOUNCED)
        with gr.Row(elem_classes="samples-row"):
            with gr.Column(scale=3, min_width=320):
                self.table = gr.HTML(elem_id="samples", js_on_load=TELL_ROW)
                with gr.Row(elem_classes="paging"):
                    self.before = gr.Button("‹ Previous", elem_id="samples-before", interactive=False, min_width=96)
                    self.page = gr.Number(1, label="Page", precision=0, elem_id="samples-page", min_width=80)
                    self.after = gr.Button("Next ›", elem_id="samples-after", interactive=False, min_width=96)
            with gr.Column(scale=2, min_width=300, elem_classes="sample-side"):
                self.sample = gr.Markdown(_hint(PICK_A_ROW), latex_delimiters=DELIMITERS, elem_id="sample")
        self.asked = [self.run, self.kind, self.correct, self.levels, self.text]
        self._turned = [self.table, self.count, self.page, self.before, self.after]
        self.shown = [*self._turned, self.levels, self.sample]
        self._wire()

    def _lay_out_filters(self) -> None:
        kinds = [("both", ""), ("attempts", "rollout"), ("explanations", "explanation")]
        verdicts = [("both", ""), ("right", "right"), ("wrong", "wrong")]
        with gr.Row(elem_classes="filters"):
            self.run = gr.Dropdown([], label="Of the run", elem_id="samples-run", min_width=220)
            self.kind = gr.Radio(kinds, value="", label="Kind", elem_id="samples-kind", min_width=330)
            self.correct = gr.Radio(verdicts, value="", label="Verdict", elem_id="samples-verdict", min_width=260)
        with gr.Row(elem_classes="filters"):
            self.levels = gr.Dropdown(
                [], multiselect=True, label="Levels (none picked: all)", elem_id="samples-levels", min_width=220
            )
            self.text = gr.Textbox(
                label="With this text", max_length=LONGEST_SEARCH, lines=1, elem_id="samples-text", scale=2
            )

    def _wire(self) -> None:
        latest: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
        for changed in (self.run, self.kind, self.correct, self.levels):
            changed.input(self.first_page, self.asked, self.shown, **latest)
        # change, not input: gradio's input event comes with pressed keys only, not with what is pasted or deleted
        self.text.change(self.first_page, self.asked, self.shown, **latest)
        turns = ((self.before.click, -1), (self.after.click, 1), (self.page.submit, 0), (self.page.blur, 0))
        for event, by in turns:
            event(self._turning(by), [self.page, *self.asked], self._turned, **latest)
        self.table.select(self._whole, self.run, self.sample, **QUIET).then(None, js=INTO_VIEW, **QUIET)

    def first_page(self, run: str | None, kind: str, correct: str, levels: list[int], text: str) -> tuple[Any, ...]:
        """The first page of what was asked for, the levels that there are, and no sample in full."""
        known = self._known_levels(run)
        kept = [level for level in levels or [] if level in known]
        choices = gr.Dropdown(choices=[(f"Level {level}", level) for level in known], value=kept)
        return (*self._shown(1, run, kind, correct, kept, text), choices, _hint(PICK_A_ROW))

    def _known_levels(self, run: str | None) -> list[int]:
        try:
            return sorted(set(load_samples(find_run(self.root, run or "").folder)["level"]))
        except ExpoLiteError:  # `_shown` has the sentence
            return []

    def _turning(self, by: int) -> Any:
        def turn(page: float | None, *asked: Any) -> tuple[Any, ...]:
            return self._shown((page or 1) + by, *asked)

        return turn

    def _shown(
        self, page: object, run: str | None, kind: str, correct: str, levels: list[int], text: str
    ) -> tuple[Any, ...]:
        """A page of the table, how much was found, the page's number, and whether it has neighbours."""
        if not run:
            return _page("", "")
        try:
            found_run = find_run(self.root, run)
            samples = load_samples(found_run.folder)
            found = matching(samples, checked_wanted(kind, levels, correct, text))
        except ExpoLiteError as error:
            return _page("", _hint(str(error)))
        if samples.empty:
            return _page("", _hint(NO_SAMPLES))
        rows, number, pages = page_of(found, page)
        count = f"{len(found):,} of {len(samples):,} samples · page {number} of {pages}"
        return _page(samples_html(rows_of(rows), found_run.config), _hint(count), number, pages)

    def _whole(self, run: str | None, event: gr.EventData) -> str:
        """The sample whose row was pressed, in full."""
        try:
            found = find_run(self.root, run or "")
            samples = load_samples(found.folder)
        except ExpoLiteError as error:
            return _hint(str(error))
        # gradio 6.31: event.row is the same, but raises TypeError where a client sends no dictionary
        row = event._data.get("row") if isinstance(event._data, dict) else None
        chosen = rows_of(matching(samples, Wanted(row=row))) if isinstance(row, int) else []
        return sample_html(chosen[0], found.config) if chosen else _hint(PICK_A_ROW)


def _page(table: str, count: str, number: int = 1, pages: int = 1) -> tuple[Any, ...]:
    return table, count, number, gr.Button(interactive=number > 1), gr.Button(interactive=number < pages)


def _hint(sentence: str) -> str:
    return f'<p class="nothing">{harmless(sentence)}</p>'
