"""The Compare tab's cards and the coloured explanation, as HTML. Text of models goes through `expo_lite.app.text`."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp

from expo_lite.app.text import harmless, with_math
from expo_lite.core.records import Verdict, why_rejected
from expo_lite.studies.comparison import (
    AFTER,
    BASE,
    BEFORE,
    EXPLANATION,
    MODELS,
    TRAINED,
    Attempt,
    Comparison,
    Likelihoods,
    token_likelihood,
)


@dataclass(frozen=True)
class Caption:
    """What a column says of itself, whatever it holds; `number` is its step in the strip above."""

    number: int
    title: str
    sees: str
    empty: str


ALONE, TOLD = "Sees the question only", "Sees the question and the answer"
CAPTIONS = {
    BEFORE: Caption(1, "Before training", ALONE, "Here the base model tries on its own."),
    EXPLANATION: Caption(2, "Self-explanation", TOLD, "Here the model explains the known answer to itself."),
    AFTER: Caption(3, "After training", ALONE, "Here the trained model tries on its own."),
}
WRITERS = {BASE: f"{MODELS[BASE]}, adapter off", TRAINED: f"{MODELS[TRAINED]}, adapter on"}

UNTRAINED = "Without a trained model, after is the same as before."
NO_ANSWER = "Without a known answer there is nothing to explain. Fill it in above."
END_SIGN, LINE_SIGN, SPACE_SIGN, UNFINISHED_SIGN = "∎", "⏎", "␣", "…"
"""Shown for the end token and before a line break; in the table also for a blank and for a part of a character."""


@dataclass(frozen=True)
class Draft:
    """What one column holds while it is being written."""

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Board:
    """All columns of one comparison: drafts while it is being written, then the whole.

    `model` names the adapter, once one is in use; `explained_by` who writes the explanation, BASE or TRAINED.
    """

    drafts: dict[str, Draft] = field(default_factory=dict)
    comparison: Comparison | None = None
    trained: bool = True
    explains: bool = True
    running: bool = False
    model: str = ""
    explained_by: str = BASE


def board_html(board: Board) -> str:
    """Three cards, each a block of its own, so that the browser only redraws those that change."""
    return "\n\n".join(_card(role, board) for role in CAPTIONS)


def empty_board(model: str, explained_by: str = BASE) -> str:
    """What stands there before the first press and after Clear; `model` is empty for the base alone."""
    return board_html(Board(trained=bool(model), explained_by=explained_by))


def is_empty(shown: str) -> bool:
    """Whether a board is one of `empty_board`."""
    return shown in {empty_board(model, by) for model in ("any", "") for by in MODELS}


def _card(role: str, board: Board) -> str:
    card = CAPTIONS[role]
    head = (
        f'<div class="card-head"><span class="step">{card.number}</span><h3>{card.title}</h3>'
        f'<p>{_writer(role, board)}<span class="sees">{card.sees}</span></p></div>'
    )
    attempt = board.comparison.attempts.get(role) if board.comparison else None
    if attempt is not None:
        body, foot, state = with_math(attempt.completion.text), _foot(role, attempt, board.comparison), _state(attempt)
    elif role in board.drafts:
        draft = board.drafts[role]
        caret = '<span class="caret"></span>' if board.running else ""
        body, state = with_math(draft.text) + caret, "writing" if board.running else "cut"
        foot = _line(_count(draft.tokens, draft.seconds) + ("" if board.running else " · stopped"))
    else:
        body, foot, state = f'<span class="empty">{_why_empty(role, board)}</span>', "", "empty"
    foot = f'<div class="card-foot">{foot}</div>' if foot else ""
    return f'<div class="card {role} {state}">{head}<div class="card-body">{body}</div>{foot}</div>'


def _writer(role: str, board: Board) -> str:
    """Who writes in a column, with the adapter's name where it is its own."""
    if role == BEFORE:
        return _capitalised(WRITERS[BASE])
    if role == EXPLANATION:
        return f"Explained by {WRITERS[board.explained_by if board.trained else BASE]}"
    if not board.model:
        return _capitalised(WRITERS[TRAINED])
    return f'<span class="of">{harmless(board.model)}</span>, adapter&nbsp;on'


def _capitalised(words: str) -> str:
    return words[0].upper() + words[1:]


def _why_empty(role: str, board: Board) -> str:
    if role == AFTER and not board.trained:
        return UNTRAINED
    if role == EXPLANATION and not board.explains:
        return NO_ANSWER
    return CAPTIONS[role].empty


def _state(attempt: Attempt) -> str:
    if attempt.verdict in (None, Verdict.TIMEOUT):
        return "unjudged"
    return "right" if attempt.verdict is Verdict.CORRECT else "wrong"


def _foot(role: str, attempt: Attempt, comparison: Comparison | None) -> str:
    """The extracted answer, the verdict in words, what it took; for the explanation, whether training would take it."""
    answer = "no answer" if attempt.answer is None else f"${attempt.answer}$"
    shown = f'<span class="label">Answer</span> <strong>{with_math(answer)}</strong>'
    lines = f'<div class="answer">{shown}{_mark(attempt)}</div>'
    lines += _line(_count(len(attempt.completion.completion_ids), attempt.seconds))
    if role == EXPLANATION and comparison is not None:
        why = comparison.rejected
        fate = f"training would turn it down: {why_rejected(why)}" if why else "accepted for training"
        lines += _line(_capitalised(fate))
    return lines


def _mark(attempt: Attempt) -> str:
    if attempt.verdict is None:
        return '<span class="mark">not judged</span>'
    if attempt.verdict is Verdict.TIMEOUT:
        return '<span class="mark">not judged in time</span>'
    if attempt.verdict is Verdict.CORRECT:
        return '<span class="mark right">✓ right</span>'
    return f'<span class="mark wrong">✗ {"cut off" if not attempt.completion.finished else "wrong"}</span>'


def _line(text: str) -> str:
    return f'<div class="line">{text}</div>'


def _count(tokens: int, seconds: float) -> str:
    return f"{tokens} token{'' if tokens == 1 else 's'} · {seconds:.1f} s"


# -------------------------------------------------------------------------------- the explanation without the hint

BANDS = (
    (0.5, "sure", "expected (50 % or more)"),
    (0.1, "likely", "plausible (10 to 50 %)"),
    (0.01, "unlikely", "surprising (1 to 10 %)"),
    (0.0, "alien", "would hardly be written (under 1&nbsp;%)"),
)
"""Least probability, class and name of each band, likeliest first."""


def band(probability: float) -> str:
    """The class of the band that a probability falls into."""
    return next(name for least, name, _ in BANDS if probability >= least)


def likelihood_html(comparison: Comparison | None) -> str:
    """The explanation, coloured twice: as the base reads it and as the trained model does. Empty without one."""
    if comparison is None or comparison.by_token is None:
        return ""
    likelihoods = comparison.by_token
    readings = [_reading(f"Read by {MODELS[BASE]}", likelihoods.tokens, likelihoods.before)]
    readers, own = MODELS[BASE], ""
    if likelihoods.after is not None:
        readings.append(_reading(f"Read by {MODELS[TRAINED]}", likelihoods.tokens, likelihoods.after))
        readers = f"{readers} and by {MODELS[TRAINED]}"
        own = " The trained model reads its own words here." if comparison.explained_by == TRAINED else ""
    legend = "".join(f'<li><span class="tok {name}">word</span> {words}</li>' for _, name, words in BANDS)
    return (
        '<div class="naturalness"><h3>Would it have been written without the answer?</h3>'
        f"<p>{_capitalised(MODELS[comparison.explained_by])} wrote this explanation, told the answer. Here it is read "
        f"again <em>without</em> the answer, by {readers}. A mark shows where the reader would hardly have gone on "
        f"like this; point at a word for its number, or open the table below.{own}</p>"
        f'<ul class="legend">{legend}</ul><div class="readings">{"".join(readings)}</div>{_table(likelihoods)}</div>'
    )


def _table(likelihoods: Likelihoods) -> str:
    """The same numbers as text, for those who do not point: each token, to the base and to the trained model."""
    columns = [_per_cents(likelihoods.before)]
    if likelihoods.after is not None:
        columns.append(_per_cents(likelihoods.after))
    names = "".join(f'<th scope="col">{name}</th>' for name in ("Token", "Base", "Trained")[: 1 + len(columns)])
    rows = "".join(
        f'<tr><th scope="row">{harmless(_visible(text))}</th>{"".join(f"<td>{share}</td>" for share in shares)}</tr>'
        for text, *shares in zip(_shown(likelihoods.tokens), *columns, strict=True)
    )
    return (
        '<details class="token-table"><summary>Every token with its numbers</summary>'
        f"<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _reading(title: str, tokens: list[str], logprobs: list[float]) -> str:
    mean = _per_cent(token_likelihood(logprobs))
    spans = "".join(_token(text, exp(logprob)) for text, logprob in zip(_shown(tokens), logprobs, strict=True))
    number = f'<span class="mean" title="geometric mean"><strong>{mean}</strong> per token on average</span>'
    head = f'<div class="reading-head"><h4>{title}</h4>{number}</div>'
    return f'<div class="reading">{head}<div class="tokens">{spans}</div></div>'


def _shown(tokens: list[str]) -> list[str]:
    return [*tokens[:-1], tokens[-1] or END_SIGN] if tokens else []


def _visible(text: str) -> str:
    """A token that can be seen where it stands alone; empty is one that ends within a character of the next."""
    return text.replace("\n", LINE_SIGN).replace(" ", SPACE_SIGN) or UNFINISHED_SIGN


def _token(text: str, probability: float) -> str:
    if text.startswith("\n"):  # a mark needs something to stand on
        text = LINE_SIGN + text
    return f'<span class="tok {band(probability)}" title="{_per_cent(probability)}">{harmless(text)}</span>'


def _per_cents(logprobs: list[float]) -> list[str]:
    return [_per_cent(exp(logprob)) for logprob in logprobs]


def _per_cent(share: float) -> str:
    return "under 0.1 %" if share < 0.001 else f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"
