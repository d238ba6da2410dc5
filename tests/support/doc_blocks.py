"""The pages of the documentation, taken apart: code blocks, commands, what is shown of their output, links, names."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}((?:python|pip|expo-lite|pytest|make|accelerate) .*)$", re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BOX = re.compile(r"[─━═│┃┏┓┗┛└┘┌┐├┤┡┩┳┻┬┴┼╇╈╋ ]+")
COMMENT = re.compile(r"(?:^|\s)#(?:\s|$).*")


@dataclass(frozen=True)
class Block:
    """A fenced block, or a line of indented commands; `language` is what stands behind the fence."""

    page: str
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """One command of a block, with what the page shows of its output."""

    page: str
    words: str
    shown: str = ""

    @property
    def module(self) -> str | None:
        """The entry point of the package that it runs."""
        found = re.match(r"(?:python -m expo_lite[. ]|expo-lite )(\S+)", self.words)
        if not found:
            return None
        return f"expo_lite.commands.{'main' if found[1] == 'presets' else found[1].replace('-', '_')}"

    @property
    def arguments(self) -> list[str]:
        """What the entry point is given."""
        words = shlex.split(self.words)
        if words[0] == "python":
            words = ["expo-lite", *words[2].split(".")[1:], *words[3:]]
        return words[1:] if self.module == "expo_lite.commands.main" else words[2:]


def page_name(page: Path) -> str:
    """As it is written in tables: README.md, docs/memory.md."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """In the order of the page."""
    text = page.read_text(encoding="utf-8")
    fenced = [(found.start(), found[1], found[2]) for found in _FENCE.finditer(text)]
    lines = [(found.start(), "", found[1] + "\n") for found in _INDENTED.finditer(_FENCE.sub(_blank, text))]
    return [Block(page_name(page), language, code) for _, language, code in sorted(fenced + lines)]


def _blank(found: re.Match[str]) -> str:
    """As many characters without a command, so that places stay."""
    return re.sub(r"[^\n]", " ", found[0])


def commands(block: Block) -> list[Command]:
    """The commands of a shell block, comments left out, `&&` taken apart; `$` lines are followed by their output."""
    text = block.text.replace("\\\n", " ")
    if re.search(r"^\$ ", text, re.MULTILINE):
        runs = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        return [_command(block, *run.partition("\n")[::2]) for run in runs]
    joined = re.sub(r"\n +", " ", text)  # a line that begins with spaces goes on with the one before
    lines = [COMMENT.sub("", line).strip() for line in joined.splitlines()]
    return [_command(block, part.strip()) for line in lines if line for part in line.split("&&")]


def _command(block: Block, words: str, shown: str = "") -> Command:
    return Command(block.page, COMMENT.sub("", words).strip(), shown)


def plain(output: str) -> list[str]:
    """Lines of output without what may differ: numbers, the borders and widths of tables, empty lines."""
    lines = (" ".join(_BOX.sub(" ", _NUMBER.sub("N", line)).split()) for line in output.splitlines())
    return [line for line in lines if line]


def links(text: str) -> list[str]:
    """Targets of links and pictures, of Markdown and HTML, outside code."""
    bare = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    return [target for found in _LINK.finditer(bare) for target in found.groups() if target]


def anchors(text: str) -> set[str]:
    """Where #links may lead: GitHub's names of the headings."""
    headings = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", found[1]) for found in _HEADING.finditer(_FENCE.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def code_spans(text: str) -> list[str]:
    """What stands between backticks, and the blocks."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)) + [found[2] for found in _FENCE.finditer(text)]
