"""The Train tab: choose, start, and watch the hard levels climb. The run itself is another process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from expo_lite.app.context import AppContext
from expo_lite.app.limits import LARGEST_SEED
from expo_lite.app.run_list import list_runs
from expo_lite.app.shell import ANNOUNCED, QUIET, Shell
from expo_lite.app.text import DELIMITERS, harmless
from expo_lite.app.train.choice import FIRST, METHOD_CHOICES, checked_wish, held_by_app, prepare
from expo_lite.app.train.trainings import Trainings, command_line
from expo_lite.app.train.view import command_html, plan_html
from expo_lite.app.train.watch import Watch
from expo_lite.config.presets import presets
from expo_lite.core.errors import ExpoLiteError

SECONDS_BETWEEN_LOOKS = 1.0
COPY = """element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) navigator.clipboard.writeText(element.querySelector('code').textContent).then(
    () => { button.textContent = 'Copied'; setTimeout(() => { button.textContent = 'Copy'; }, 1500); });
});"""
"""The Copy button of `command_html`."""
STOPPING = "It saves and ends after the step under way; if none has begun yet, it ends at once."


def build(context: AppContext, shell: Shell) -> None:
    """Lay the tab out and wire it."""
    watch = Watch(Trainings(context.root), lambda name: name in context.opening.adapters())
    choice = _choice(watch)
    status = gr.HTML(_status(""), elem_id="train-status", js_on_load=ANNOUNCED)
    screen = _screen(watch, shell)
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


@dataclass(frozen=True)
class Screen:
    """The run that a user watches. `name` is its name, `seen` the stamp of what is on the screen."""

    run: gr.Dropdown
    stop: gr.Button
    resume: gr.Button
    compare: gr.Button
    progress: gr.HTML
    charts: gr.HTML
    numbers: gr.HTML
    table: gr.Accordion
    feed: gr.Markdown
    timer: gr.Timer
    name: gr.State
    seen: gr.State

    @property
    def live(self) -> list[Any]:
        """What a look may change."""
        shown = [self.progress, self.charts, self.numbers, self.table, self.feed]
        return [*shown, self.stop, self.resume, self.compare, self.timer, self.seen]


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


def _screen(watch: Watch, shell: Shell) -> Screen:
    with gr.Row(elem_classes="watching"):
        run = gr.Dropdown(
            _names(watch), value=None, label="Run on the screen", elem_id="train-run", scale=4, min_width=240
        )
        stop = gr.Button("Stop", elem_id="train-stop", interactive=False, min_width=90)
        resume = gr.Button("Resume", elem_id="train-resume", interactive=False, min_width=90)
        compare = gr.Button("Compare before and after", elem_id="train-compare", visible=False, min_width=240)
    progress = gr.HTML("", elem_id="train-progress")
    charts = gr.HTML("", elem_id="train-charts")
    # not a <details> among the charts: what is drawn anew every second would close it
    with gr.Accordion("These curves as numbers", open=False, visible=False, elem_id="train-table") as table:
        numbers = gr.HTML("", elem_id="train-numbers")
    feed = gr.Markdown("", latex_delimiters=DELIMITERS, elem_id="train-feed", elem_classes="board")
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    shown = (progress, charts, numbers, table, feed)
    shell.compares(compare, name := gr.State(""))
    return Screen(run, stop, resume, compare, *shown, timer, name, gr.State(""))


def _names(watch: Watch) -> list[str]:
    return [run.name for run in list_runs(watch.trainings.root)]


def _status(sentence: str) -> str:
    return f'<p class="status">{harmless(sentence)}</p>'


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
            return _status(str(error)), gr.skip(), gr.skip(), *[gr.skip()] * len(screen.live)
        said = f"{name} has begun. The page may be closed meanwhile; the training goes on."
        return _status(said), gr.Dropdown(choices=[name, *_names(watch)], value=name), name, *_look(watch, name, "")

    planned = [choice.plan, choice.command, choice.start]
    changes = [choice.preset.change, choice.method.change, choice.seed.change, shell.page.load]
    gr.on(changes, replan, choice.inputs, planned, trigger_mode="always_last", **QUIET)
    shown = [status, screen.run, screen.name, *screen.live]
    started = choice.start.click(start, choice.inputs, shown, trigger_mode="once", **QUIET)
    started.then(replan, choice.inputs, planned, **QUIET)  # the next one will have another name


def _wire_screen(watch: Watch, shell: Shell, status: gr.HTML, screen: Screen) -> None:
    def pick(name: str | None) -> tuple[Any, ...]:
        return _status(""), name or "", *_look(watch, name or "", "")

    def find(name: str) -> tuple[Any, ...]:
        """What is being trained comes first, then what the user looked at, then the newest run."""
        names = _names(watch)
        name = watch.trainings.active() or (name if name in names else next(iter(names), ""))
        choices = names if name in names or not name else [name, *names]
        return gr.Dropdown(choices=choices, value=name or None), name, *_look(watch, name, "")

    screen.run.input(pick, screen.run, [status, screen.name, *screen.live], **QUIET)
    screen.timer.tick(lambda name, seen: _look(watch, name, seen), [screen.name, screen.seen], screen.live, **QUIET)
    for button, act, sentence in (
        (screen.stop, watch.trainings.stop, STOPPING),
        (screen.resume, watch.trainings.resume, "It goes on where it was saved."),
    ):
        acted = _acting(watch, screen, act, sentence)
        button.click(acted, screen.name, [status, *screen.live], trigger_mode="once", **QUIET)
    gr.on([shell.page.load, shell.tabs.change], find, screen.name, [screen.run, screen.name, *screen.live], **QUIET)


def _acting(
    watch: Watch, screen: Screen, act: Callable[[str], None], sentence: str
) -> Callable[[str], tuple[Any, ...]]:
    def acted(name: str) -> tuple[Any, ...]:
        try:
            act(name)
        except ExpoLiteError as error:
            return _status(str(error)), *_look(watch, name, "")
        return _status(sentence), *_look(watch, name, "")

    return acted


def _look(watch: Watch, name: str, seen: str) -> tuple[Any, ...]:
    """What has changed on a user's screen: values for `Screen.live`. The timer runs only while the run does."""
    shown = watch.look(name, seen)
    if shown is None:
        return (gr.skip(),) * 10
    standing = shown.standing
    active = standing is not None and standing.is_active
    can_stop = active and standing is not None and standing.state != "stopping"
    return (
        shown.progress,
        shown.charts,
        shown.numbers,
        gr.Accordion(visible=bool(shown.numbers)),
        shown.feed,
        gr.Button(interactive=can_stop),
        gr.Button(interactive=standing is not None and standing.can_resume),
        gr.Button(visible=standing is not None and standing.state == "finished" and watch.fits(name)),
        gr.Timer(active=active),
        shown.stamp,
    )
