r"""Text of users and models as HTML that can do nothing: every sign becomes an entity, only mathematics is kept.

Gradio renders mathematics (with its bundled KaTeX) between the delimiters it is told. Those here are private
characters, set around what `with_math` finds: a price in dollars stays a price, and no model can write them.
"""

from __future__ import annotations

import re

INLINE, DISPLAY = ("\ue000", "\ue001"), ("\ue002", "\ue003")
DELIMITERS = [
    {"left": DISPLAY[0], "right": DISPLAY[1], "display": True},
    {"left": INLINE[0], "right": INLINE[1], "display": False},
]
"""What gr.Markdown takes as latex_delimiters."""

_PRIVATE = re.compile("[\ue000-\ue003]")
_BOX = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
"""A box around what may hold braces of its own, as a fraction does."""
_PLAIN = r"\\.|[^{}$%#&\\]"
_BARE_BOX = rf"\\boxed\{{(?:{_PLAIN}|\{{(?:{_PLAIN}|\{{(?:{_PLAIN})*\}})*\}})*\}}"
"""One that many models write without delimiters around it; without signs that KaTeX would stumble over in there."""
_MATH = re.compile(
    r"\$\$(?P<double>.+?)\$\$"
    r"|\\\[(?P<square>.+?)\\\]"
    r"|\\\((?P<round>.+?)\\\)"
    r"|(?<![\\$])\$(?P<single>(?![\s$])[^$\n]*?[^\s$\\])\$(?![\d$])"
    rf"|(?P<box>{_BARE_BOX})",
    re.DOTALL,
)


def harmless(text: str) -> str:
    """Text as HTML (and Markdown) that shows just that text."""
    return "".join(c if c == " " or c.isalnum() else f"&#{ord(c)};" for c in _PRIVATE.sub("", text) if c != "\0")


def unmarked(text: str) -> str:
    """Text for a line of a list, where no mathematics is rendered: without its delimiters and boxes."""
    return _BOX.sub(r"\1", _MATH.sub(_formula, text))


def with_math(text: str) -> str:
    """Like `harmless`, with the mathematics that stands in it marked for rendering."""
    text = _PRIVATE.sub("", text)
    parts, end = [], 0
    for match in _MATH.finditer(text):
        left, right = DISPLAY if match["double"] or match["square"] else INLINE
        parts += [harmless(text[end : match.start()]), left, harmless(_formula(match)), right]
        end = match.end()
    return "".join([*parts, harmless(text[end:])])


def _formula(math: re.Match[str]) -> str:
    return next(part for part in math.groups() if part is not None)
