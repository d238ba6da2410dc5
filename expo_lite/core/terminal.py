"""Text for people: on a terminal it goes on in the next line between two words, a file or a pipe has it in one line."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from typing import TextIO

from rich.console import Console

_START = re.compile(r" *(?:[*|] |\S+(?: \S+)*  +)?")
"""What later lines are indented by: a mark, or a name and the spaces after it."""
_QUANTITY = re.compile(r"(?<=\d) (?=(?:s|min|h|d|GiB|MiB|GB|%)\b|%)")
"""A number stays beside its unit."""
_NO_BREAK = "\N{NO-BREAK SPACE}"
_MOST_INDENT = 26
_COMMAND = re.compile(r" *(?:python|pip|expo-lite|accelerate) \S+( \S+)*$")


def say(console: Console, text: str, style: str = "") -> None:
    """Print sentences; `text` may quote a model, so nothing in it is markup."""
    shown = wrapped(text, console.width) if console.is_terminal else text
    console.print(shown, style=style, highlight=False, markup=False, soft_wrap=True)


def tell(text: str, file: TextIO | None = None) -> None:
    """The same without rich: to the output as it is now, or to `file`."""
    to: TextIO = sys.stdout if file is None else file
    print(wrapped(text, shutil.get_terminal_size().columns) if to.isatty() else text, file=to)


def wrapped(text: str, width: int) -> str:
    """`text` in lines of at most `width`; a word that is longer, such as a path, and a command to copy stay whole."""
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    if len(line) <= width or _COMMAND.match(line):
        return line
    start = _START.match(line)
    indent = min(len(start[0]) if start else 0, _MOST_INDENT)
    lines = textwrap.fill(
        _QUANTITY.sub(_NO_BREAK, line),
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    )
    return lines.replace(_NO_BREAK, " ")
