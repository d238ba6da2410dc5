"""What happens at the Compare tab's presses, and at calls of its API; how it looks is in `tab`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from expo_lite.app.compare.board import board_html, empty_board, likelihood_html
from expo_lite.app.compare.job import answer_for, as_json, boards, checked, compare_job
from expo_lite.app.context import AppContext
from expo_lite.app.text import harmless
from expo_lite.app.worker import Done, Failed
from expo_lite.core.errors import ExpoLiteError

INVITATION = "Press Compare: one question, three columns, one set of weights."


def status(sentence: str) -> str:
    """The line above the columns."""
    return f'<p class="status">{harmless(sentence)}</p>'


def chosen(context: AppContext, model: str | None) -> str:
    """The trained model to use: empty for the base alone, which is a choice; before anyone has chosen, the newest."""
    return context.opening.starts_with() if model is None else model


def _user(request: gr.Request) -> str:
    return str(getattr(request, "session_hash", None) or uuid.uuid4())


def _empty(model: str, explained_by: str) -> tuple[str, str, str]:
    """Board, likelihoods and status before anything was asked."""
    return empty_board(model, explained_by), "", status(INVITATION)


def press(context: AppContext) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """Compare, or Enter: the board, the likelihoods and the status, again and again until all is written.

    Before all else comes Stop, which can be pressed until `ended`.
    """

    def press(
        question: str,
        answer: str,
        answered: str,
        model: str | None,
        explained_by: str,
        greedy: bool,
        seed: float,
        number: float,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        model = chosen(context, model)
        answer = answer_for(context.problems, question, answer, answered, context.in_tiny_world)
        try:
            asked = checked(context.opening, question, answer, model, greedy, seed, explained_by)
            ticket = context.worker.submit(_user(request), compare_job(asked), number)
        except ExpoLiteError as error:
            yield empty_board(model, explained_by), "", status(str(error)), gr.skip()
            return
        yield gr.skip(), gr.skip(), gr.skip(), gr.Button(interactive=True)
        for board, sentence in boards(ticket, asked):
            yield board_html(board), likelihood_html(board.comparison), status(sentence), gr.skip()
        if ticket.is_silent:  # cleared: the browser may show what came before only now, after Clear's own answer
            yield *_empty(model, explained_by), gr.skip()

    return press


def ended(context: AppContext) -> Callable[..., Any]:
    """The browser has shown all that came of a press: nothing of it stays where Clear was pressed meanwhile.

    There is nothing more to stop, either.
    """

    def ended(model: str | None, explained_by: str, number: float, request: gr.Request) -> Any:
        cleared = context.worker.was_silenced(_user(request), number)
        shown = _empty(chosen(context, model), explained_by) if cleared else (gr.skip(), gr.skip(), gr.skip())
        return *shown, gr.Button(interactive=False)

    return ended


def stop(context: AppContext) -> Callable[[float, gr.Request], None]:
    """Stop: the press with this number, whether it has arrived here yet or not."""

    def stop(number: float, request: gr.Request) -> None:
        context.worker.stop(_user(request), press=number)

    return stop


def leave(context: AppContext) -> Callable[[gr.Request], None]:
    """The page was closed: nothing is written for it any more."""

    def leave(request: gr.Request) -> None:
        context.worker.stop(_user(request))

    return leave


def clear(context: AppContext) -> Callable[..., tuple[str, str, str, str, str]]:
    """Clear: Stop, without a word, and everything empty: question, answer, board, likelihoods, status."""

    def clear(
        model: str | None, explained_by: str, number: float, request: gr.Request
    ) -> tuple[str, str, str, str, str]:
        context.worker.stop(_user(request), silently=True, press=number)
        return "", "", *_empty(chosen(context, model), explained_by)

    return clear


def api(context: AppContext) -> Callable[..., dict[str, Any]]:
    """The call `/compare`; its help is the docstring below."""

    def compare(
        question: str,
        answer: str,
        model: str,
        greedy: bool,
        seed: int,
        request: gr.Request,
        explained_by: str = "base",
    ) -> dict[str, Any]:
        """Answer a question before and after training, and explain its known answer.

        `model` is the name of a trained run, or empty for the base alone. `explained_by` is base or trained. A client's
        newer call stops its older one.
        """
        try:
            asked = checked(context.opening, question, answer, model, greedy, seed, explained_by)
            ticket = context.worker.submit(_user(request), compare_job(asked))
        except ExpoLiteError as error:
            raise gr.Error(str(error), print_exception=False) from error
        for event in ticket.events():
            if isinstance(event, Failed):
                raise gr.Error(event.sentence, print_exception=False)
            if isinstance(event, Done):
                return as_json(event.result)
        raise gr.Error("Stopped.", print_exception=False)

    return compare
