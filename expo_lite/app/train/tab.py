"""The Train tab: choose, start, and watch the hard levels climb. The run itself is another process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from expo_lite.app.context import AppContext
from expo_lite.app.limits import LARGEST_SEED
from expo_lite.app.run_list import choices, list_runs, titled, to_open
from expo_lite.app.shell import ANNOUNCED, QUIET, Shell
from expo_lite.app.text import harmless
from expo_lite.app.train.choice import FIRST, METHOD_CHOICES, checked_wish, held_by_app, prepare
from expo_lite.app.train.screen import Screen, fed, lay_out, live, looking
from expo_lite.app.train.trainings import Trainings, command_line
from expo_lite.app.train.view import command_html, plan_html
from expo_lite.app.train.watch import FeedView, RunView, Watch
from expo_lite.config.presets import presets
from expo_lite.core.errors import ExpoLiteError

COPY = """element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) navigator.clipboard.writeText(element.querySelector('code').textContent).then(
    () => { button.textContent = 'Copied'; setTimeout(() => { button.textContent = 'Copy'; }, 1500); });
});"""
"""The Copy button of `command_html`."""
TO_THE_RUN = "() => document.querySelector('#train-status')?.scrollIntoView({ block: 'start' })"
"""After a start: what is said of it, and below it the run, come to the top of the window."""
STOPPING = "It saves and ends after the step under way; if none has begun yet, it ends at once."


def build(context: AppContext, shell: Shell) -> None:
    """Lay the tab out and wire it."""
    watch = Watch(Trainings(context.root), lambda name: name in context.opening.adapters())
    choice = _choice(watch)
    status = gr.HTML(_status(""), elem_id="train-status", js_on_load=ANNOUNCED)
    screen = lay_out(watch, shell)
    _wire_choice(watch, shell, choice, status, screen)
    _wire_screen(watch, shell, status, screen)


# ------------------------------------------------------------------------------------------------------------- layout


@dataclass(frozen=True)
class Choice:
    """What is chosen before a start, and what is said about it."""

    preset: gr.Dropdown
    method: gr.Radio
    seed: gr.Number
    plan: gr.HTML
    command: gr.HTML
    start: gr.Button

    @property
    def inputs(self) -> list[Any]:
        """In the order of `checked_wish`."""
        return [self.preset, self.method, self.seed]


def _choice(watch: Watch) -> Choice:
    plan, command, can_start = _plan(watch, FIRST.preset, FIRST.method, FIRST.seed)
    with gr.Column(elem_classes="asking"):
        with gr.Row(elem_classes="choosing"):
            preset = gr.Dropdown(
                presets(), value=FIRST.preset, label="Preset", elem_id="train-preset", scale=0, min_width=150
            )
            method = gr.Radio(
                METHOD_CHOICES, value=FIRST.method, label="Method", elem_id="train-method", scale=4, min_width=260
            )
            seed = gr.Number(
                FIRST.seed,
                label="Seed",
                precision=0,
                minimum=0,
                maximum=LARGEST_SEED,
                elem_id="train-seed",
                scale=0,
                min_width=110,
            )
        with gr.Row(elem_classes="commanding"):
            shown = gr.HTML(command, elem_id="train-command", js_on_load=COPY)
            start = gr.Button(
                "Start training",
                variant="primary",
                elem_id="train-start",
                interactive=can_start,
                scale=0,
                min_width=170,
            )
        said = gr.HTML(plan, elem_id="train-plan")
    return Choice(preset, method, seed, said, shown, start)


def _status(sentence: str) -> str:
    return f'<p class="status">{harmless(sentence)}</p>'


def _ended(shown: RunView | None) -> str | None:
    """Said to screen readers alone of a run that has ended: no word of a start or stop stays above its own head."""
    if shown is None or shown.is_active:
        return None
    return f'<p class="status unseen">{harmless(shown.sentence)}</p>'


# ------------------------------------------------------------------------------------------------------------- wiring


def _plan(watch: Watch, preset: object, method: object, seed: object) -> tuple[str, str, bool]:
    """The plan in words, the command, and whether it can run here."""
    try:
        prepared = prepare(asked := checked_wish(preset, method, seed))
    except ExpoLiteError as error:
        return f'<p class="live-refusal">{harmless(str(error))}</p>', "", False
    folder = watch.trainings.root / watch.trainings.fresh_name(asked)
    return plan_html(prepared, held_by_app()), command_html(command_line(asked.arguments(folder))), not prepared.refusal


def _wire_choice(watch: Watch, shell: Shell, choice: Choice, status: gr.HTML, screen: Screen) -> None:
    def replan(preset: str, method: str, seed: float) -> tuple[str, str, Any]:
        plan, command, can_start = _plan(watch, preset, method, seed)
        return plan, command, gr.Button(interactive=can_start)

    def start(preset: str, method: str, seed: float) -> tuple[Any, ...]:
        try:
            prepared = prepare(asked := checked_wish(preset, method, seed))
            if prepared.refusal:
                raise ExpoLiteError(prepared.refusal)
            name = watch.trainings.start(asked)
        except ExpoLiteError as error:
            return _status(str(error)), *[gr.skip()] * (2 + len(screen.looking))
        said = f"{name} has begun. The page may be closed meanwhile; the training goes on."
        command = command_html(command_line(asked.arguments(watch.trainings.root / name)), name)
        known = [choice for choice in choices(list_runs(watch.trainings.root)) if choice[1] != name]
        runs = gr.Dropdown(choices=[(titled(name, prepared.config), name), *known], value=name)
        return _status(said), command, runs, *looking(watch, name)

    planned = [choice.plan, choice.command, choice.start]
    changes = [choice.preset.change, choice.method.change, choice.seed.change, shell.page.load]
    gr.on(changes, replan, choice.inputs, planned, trigger_mode="always_last", **QUIET)
    shown = [status, choice.command, screen.run, *screen.looking]
    started = choice.start.click(start, choice.inputs, shown, trigger_mode="once", **QUIET)
    started.then(None, js=TO_THE_RUN, **QUIET)


def _wire_screen(watch: Watch, shell: Shell, status: gr.HTML, screen: Screen) -> None:
    def pick(name: str | None) -> tuple[Any, ...]:
        return _status(""), *looking(watch, name or "")

    def find(name: str) -> tuple[Any, ...]:
        """What is being trained comes first, then what the user looked at, then what the page would open."""
        runs = list_runs(watch.trainings.root)
        known, names = choices(runs), [run.name for run in runs]
        first = to_open(runs)
        name = watch.trainings.active() or (name if name in names else first.name if first else "")
        if name and name not in names:
            known = [(name, name), *known]
        return gr.Dropdown(choices=known, value=name or None), *looking(watch, name)

    def tick(name: str, page: int, seen: str) -> tuple[Any, ...]:
        """What is new; once the run has ended, no word of how it began or was told to stop stays."""
        shown = watch.look(name, seen, page)
        return _ended(shown) or gr.skip(), *live(watch, name, shown)

    def turning(to: Callable[[FeedView], int | None]) -> Callable[[str, int], tuple[Any, ...]]:
        def turn(name: str, page: int) -> tuple[Any, ...]:
            beside = to(watch.feed(name, page))
            page = page if beside is None else beside
            return page, *fed(watch.feed(name, page))

        return turn

    screen.run.input(pick, screen.run, [status, *screen.looking], **QUIET)
    screen.timer.tick(tick, [screen.name, screen.page, screen.seen], [status, *screen.live], **QUIET)
    turned: list[Any] = [screen.page, *screen.fed]
    screen.newer.click(turning(lambda feed: feed.page.newer), [screen.name, screen.page], turned, **QUIET)
    screen.older.click(turning(lambda feed: feed.page.older), [screen.name, screen.page], turned, **QUIET)
    for button, act, sentence in (
        (screen.stop, watch.trainings.stop, STOPPING),
        (screen.resume, watch.trainings.resume, "It goes on where it was saved."),
    ):
        acted = _acting(watch, act, sentence)
        button.click(acted, [screen.name, screen.page], [status, *screen.live], trigger_mode="once", **QUIET)
    gr.on([shell.page.load, shell.tabs.change], find, screen.name, [screen.run, *screen.looking], **QUIET)


def _acting(watch: Watch, act: Callable[[str], None], sentence: str) -> Callable[[str, int], tuple[Any, ...]]:
    def acted(name: str, page: int) -> tuple[Any, ...]:
        said = sentence
        try:
            act(name)
        except ExpoLiteError as error:
            said = str(error)
        shown = watch.look(name, page=page)
        ended = _ended(shown) if said == sentence else None
        return ended or _status(said), *live(watch, name, shown)

    return acted
