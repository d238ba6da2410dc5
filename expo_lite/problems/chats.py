"""A chat as data sets hold it, a list of turns -> the turns before the question, the question, and a reply to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from expo_lite.core.records import Turn
from expo_lite.problems.values import Unusable, encodable, question_in, show

ROLES = ("system", "user", "assistant")
_SHAREGPT = {"human": "user", "gpt": "assistant"}


class Chat(NamedTuple):
    """`question` is the last turn of the user, `turns` come before it, `reply` is the assistant's turn behind it."""

    turns: tuple[Turn, ...]
    question: str
    reply: str | None


def chat_in(value: Any, column: str) -> Chat:
    """A question as text or as a chat. Raises Unusable, naming the turn where one is at fault."""
    if not _is_chat(value):
        return Chat((), question_in(value, column), None)
    turns = _turns(value, column)
    for number, turn in enumerate(turns[1:], 2):
        if turn.role == "system":
            raise Unusable(f"{column}: turn {number} is the system's, which should come first")
    before = turns[:-1] if turns[-1].role == "assistant" else turns
    if not before or before[-1].role != "user":
        raise Unusable(
            f"{column}: should end with a turn of the user, or with that and a reply, got a chat of "
            f"{', '.join(turn.role for turn in turns)}"
        )
    return Chat(tuple(before[:-1]), before[-1].content, None if before is turns else turns[-1].content)


def has_reply(value: Any) -> bool:
    """Whether a value is a chat that ends with what may be a turn of the assistant."""
    return _is_chat(value) and (value[-1].get("role") or value[-1].get("from")) in ("assistant", "gpt")


def reply_in(value: Any, column: str) -> Any:
    """The text of a chat that is one turn of the assistant, as in TRL's `completion`; other values as they are."""
    if not _is_chat(value):
        return value
    turns = _turns(value, column)
    if [turn.role for turn in turns] != ["assistant"]:
        roles = ", ".join(turn.role for turn in turns)
        raise Unusable(f"{column}: should be text or one turn of the assistant, got a chat of {roles}")
    return turns[0].content


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def _turns(chat: Sequence[Mapping[str, Any]], column: str) -> list[Turn]:
    return [_turn(turn, f"{column}: turn {number}") for number, turn in enumerate(chat, 1)]


def _turn(turn: Mapping[str, Any], where: str) -> Turn:
    """From role and content, or from ShareGPT's from and value."""
    if turn.get("role") is None and turn.get("from") is not None:
        role, content = _SHAREGPT.get(str(turn["from"]), turn["from"]), turn.get("value")
    else:
        role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise Unusable(f"{where} has the role {show(role)}; only {', '.join(ROLES)} are read")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise Unusable(f"{where} ({role}) calls a tool, which is not supported")
    content = _joined(content, f"{where} ({role})")
    if not isinstance(content, str) or not content.strip():
        raise Unusable(f"{where} ({role}) should be non-empty text, got {show(content)}")
    return Turn(role, encodable(content, where))


def _joined(content: Any, where: str) -> Any:
    """OpenAI's parts of a turn as one text, joined as chat templates do."""
    if not (isinstance(content, list) and content and all(isinstance(part, Mapping) for part in content)):
        return content
    for part in content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Unusable(f"{where} holds a part of type {show(part.get('type'))}; only parts of text are read")
    return "".join(part["text"] for part in content)
