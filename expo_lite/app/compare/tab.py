"""The Compare tab: one question, three columns, one press."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.events import api

from expo_lite.app.compare import events
from expo_lite.app.compare.board import empty_board, is_empty
from expo_lite.app.compare.job import known_answer, pick
from expo_lite.app.context import AppContext
from expo_lite.app.limits import ANSWER_CHARACTERS, QUESTION_CHARACTERS
from expo_lite.app.shell import ANNOUNCED, QUIET, Shell
from expo_lite.app.text import DELIMITERS
from expo_lite.app.worker import MOST_WAITING
from expo_lite.studies.comparison import BASE, MODELS

FIRST_LEVEL = 4
"""Where there is such a level: in the tiny world, the first that the base always fails."""
TOGETHER: dict[str, Any] = {"concurrency_limit": MOST_WAITING + 2, "concurrency_id": "compare"}
"""One who is served, those who may wait, and one who is told that too many do; well below gradio's 40 threads."""
BASE_ALONE = "none: the base alone"
NUMBERS_THE_PRESS = "(...asked) => [...asked.slice(0, -1), (window.presses = (window.presses ?? 0) + 1)]"
NAMES_THE_PRESS = "(...given) => [...given.slice(0, -1), window.presses ?? 0]"
"""Run in the browser, so that Stop says which press it is meant for: on the way here it may overtake that press."""


def build(context: AppContext, shell: Shell) -> None:
    """Lay the tab out and wire it."""
    with gr.Column(elem_classes="asking"):
        level, another = _levels(context)
        with gr.Row(elem_classes="question"):
            question, answer = _question(context)
            with gr.Row(elem_classes="actions", scale=1):
                start = gr.Button("Compare", variant="primary", elem_id="compare", scale=2, min_width=120)
                stop = gr.Button("Stop", elem_id="stop", interactive=False, min_width=72)
                clear = gr.Button("Clear", elem_id="clear", min_width=72)
        model, explainer, greedy, seed = _settings(context)
    offered = _offers_training(shell, _choices(context))
    train = gr.Button("Nothing is trained yet: train a model now", elem_id="train-one", visible=offered)
    shell.leads_to(train, "train")
    status = gr.HTML(events.status(events.INVITATION), elem_id="status", js_on_load=ANNOUNCED)
    empty = empty_board(context.opening.starts_with())
    board = gr.Markdown(empty, latex_delimiters=DELIMITERS, elem_id="board", elem_classes="board")
    likelihoods = gr.HTML("", elem_id="likelihoods")

    # What the browser holds for the user: the question that the answer belongs to, the number of the newest press
    answered = gr.Textbox(question.value, visible=False)
    press = gr.Number(0, visible=False)
    _wire_picking(context, question, answer, answered, level, another)
    asking = [question, answer, answered, model, explainer, greedy, seed, press]
    shown = [board, likelihoods, status, stop]
    pressed = gr.on(
        [start.click, question.submit, answer.submit],
        events.press(context),
        asking,
        shown,
        show_progress="hidden",
        trigger_mode="once",
        js=NUMBERS_THE_PRESS,
        **TOGETHER,
        api_visibility="private",
    )
    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    stop.click(events.stop(context), press, queue=False, js=NAMES_THE_PRESS, **hidden)
    cleared = [question, answer, board, likelihoods, status]
    emptied = [model, explainer, press]
    clear.click(events.clear(context), emptied, cleared, js=NAMES_THE_PRESS, **hidden)
    # Of two events the browser may show the older one's answers last, so Clear's own is not enough. Nor would it be to
    # cancel the press: what has arrived of it is shown all the same.
    pressed.then(events.ended(context), emptied, shown, queue=False, js=NAMES_THE_PRESS, **hidden)
    api(events.api(context), api_name="compare", **TOGETHER)
    _wire_page(context, shell, model, train)
    gr.on([model.change, explainer.change], _redraw(context), [model, explainer, board], board, **QUIET)


def _first_level(context: AppContext) -> int | None:
    levels = sorted(context.problems)
    return FIRST_LEVEL if FIRST_LEVEL in levels else levels[len(levels) // 2] if levels else None


def _levels(context: AppContext) -> tuple[gr.Radio, gr.Button]:
    with gr.Row(visible=bool(context.problems), elem_classes="picking"):
        level = gr.Radio(
            [(f"Level {n}", n) for n in sorted(context.problems)],
            value=_first_level(context),
            label="Pick a problem that it was never trained on",
            elem_id="level",
            scale=4,
        )
        another = gr.Button("Another of this level", elem_id="another", min_width=180, scale=0)
    return level, another


def _question(context: AppContext) -> tuple[gr.Textbox, gr.Textbox]:
    first = _first_level(context)
    asked, answered = pick(context.problems, first, 0) if first is not None else ("", "")
    tiny = context.opening.config.policy.model == "tiny"
    question = gr.Textbox(
        asked,
        label="Question (this small model reads sums of two-digit numbers)" if tiny else "Question",
        placeholder="Pick a level, or type a question of your own",
        lines=1,
        max_lines=8,
        max_length=QUESTION_CHARACTERS,
        elem_id="question",
        scale=4,
        min_width=280,
    )
    answer = gr.Textbox(
        answered,
        label="Known answer, if any",
        placeholder="unknown",
        max_length=ANSWER_CHARACTERS,
        elem_id="answer",
        scale=1,
        min_width=150,
    )
    return question, answer


def _settings(context: AppContext) -> tuple[gr.Dropdown, gr.Radio, gr.Radio, gr.Number]:
    about = "Settings: model, explainer, sampling"
    with gr.Accordion(about, open=False, elem_id="settings"), gr.Row():
        choices = _choices(context)
        # not chosen yet: what is trained by then is found when the page is loaded
        model = gr.Dropdown(choices, value=None, label=_model_label(choices), elem_id="model", min_width=200)
        explainer = gr.Radio(
            [(words, name) for name, words in MODELS.items()],
            value=BASE,
            label="The explanation is written by",
            elem_id="explainer",
            min_width=310,
        )
        greedy = gr.Radio(
            [("the likeliest tokens", True), ("sampled, as in training", False)],
            value=True,
            label="It writes",
            elem_id="greedy",
            min_width=410,
        )
        seed = gr.Number(0, label="Seed of sampling", precision=0, minimum=0, elem_id="seed", min_width=140)
    return model, explainer, greedy, seed


def _choices(context: AppContext) -> list[tuple[str, str]]:
    return [*((title, name) for name, title in context.opening.titles().items()), (BASE_ALONE, "")]


def _model_label(choices: list[tuple[str, str]]) -> str:
    return "Trained model" if len(choices) > 1 else "Trained model (nothing is trained yet)"


def _offers_training(shell: Shell, choices: list[tuple[str, str]]) -> bool:
    return "train" in shell.ids and len(choices) == 1


def _wire_picking(
    context: AppContext,
    question: gr.Textbox,
    answer: gr.Textbox,
    answered: gr.Textbox,
    level: gr.Radio,
    another: gr.Button,
) -> None:
    place = gr.State(0)

    def first(of_level: int) -> tuple[str, str, int]:
        return (*pick(context.problems, of_level, 0), 0)

    def following(of_level: int, at: int) -> tuple[str, str, int]:
        return (*pick(context.problems, of_level, at + 1), at + 1)

    level.input(first, level, [question, answer, place], **QUIET)
    another.click(following, [level, place], [question, answer, place], **QUIET)

    def typed(asked: str | None) -> tuple[str, str]:
        return known_answer(context.problems, asked or "", context.in_tiny_world), asked or ""

    # change, not input: gradio's input event comes with pressed keys only, not with what is pasted or deleted
    question.change(typed, question, [answer, answered], trigger_mode="always_last", **QUIET)


def _wire_page(context: AppContext, shell: Shell, model: gr.Dropdown, train: gr.Button) -> None:
    """On loading the page or changing tabs: the trained models there are. On leaving: stop what the user runs."""

    def refresh(chosen: str | None, asked_for: str) -> tuple[Any, Any, str]:
        choices = _choices(context)
        names = [name for _, name in choices]
        wanted = asked_for or chosen  # None before anyone has chosen; empty is the base alone
        value = wanted if wanted in names else context.opening.starts_with() or None
        dropdown = gr.Dropdown(choices=choices, value=value, label=_model_label(choices))
        return dropdown, gr.Button(visible=_offers_training(shell, choices)), ""

    found_anew = [shell.page.load, shell.tabs.change]  # a training may have ended on another tab
    gr.on(found_anew, refresh, [model, shell.to_compare], [model, train, shell.to_compare], **QUIET)
    shell.page.unload(events.leave(context))


def _redraw(context: AppContext) -> Callable[[str | None, str, str], Any]:
    """An empty board, for another trained model, for the base alone or another explainer; what is written stays.

    Nothing where it stands there already: late, an answer would take away what was written in the meantime.
    """

    def redraw(model: str | None, explained_by: str, shown: str) -> Any:
        empty = empty_board(events.chosen(context, model), explained_by)
        return empty if is_empty(shown) and shown != empty else gr.skip()

    return redraw
