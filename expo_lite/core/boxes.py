"""Finding the final answer of a text in its box."""

from __future__ import annotations

import re
from collections import deque

_BARE_BOX = re.compile(r"\\boxed\s{1,9}([^\s{}$][^$\n]{0,99})\$|\\boxed\s{0,9}([0-9a-zA-Z])(?![0-9a-zA-Z])")
_BRACES = re.compile(r"\\{1,4}(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)


def boxed_answer(text: str) -> str | None:
    r"""Return the stripped content of the last balanced `\boxed{...}` or `\fbox{...}`; None without one or if empty."""
    start, end = boxed_place(text)
    return text[start:end].strip() or None


def boxed_place(text: str) -> tuple[int, int]:
    r"""Return where the content of the last balanced box starts and ends, (0, 0) without one; linear, by a stack.

    Without any box in braces, the last `\boxed 5` counts: what goes on to a dollar sign, or else one character.
    """
    stack: list[tuple[bool, int]] = []  # (is a box, where its content starts) of each open brace
    last = (0, 0)
    for token in _BRACES.finditer(text):
        word = token.group()
        if word.endswith("{") and word != r"\{":
            stack.append((len(word) > 1, token.end()))
        elif word == "}" and stack:
            is_box, start = stack.pop()
            if is_box and start > last[0]:
                last = (start, token.start())
    bare = None if last[1] else deque(_BARE_BOX.finditer(text), maxlen=1)
    return bare[0].span(bare[0].lastindex or 0) if bare else last
