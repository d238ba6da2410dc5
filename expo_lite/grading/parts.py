"""The parts of an answer in normal form (sides, members, rows), and whether it is text rather than mathematics."""

from __future__ import annotations

import re

from expo_lite.grading.answer_text import RELATION, normalise

NAME = re.compile(  # x, x_1, f(3), (x, y), \angle ABC, "the area": letters, no digits or operators of its own
    r"(?!\\(?:pi|infty)$|.*\b(?:no|not|never)\b)"
    r"(?:[A-Za-z\\'{} |]+(?:_(?:\w|\{\w+\}))?'*(?:\([^()=]*\))?|\([A-Za-z]\w*(?:, [A-Za-z]\w*)*\))"
)
_TUPLE = re.compile(r"(\(|\[|\\\{)(.+)(\)|\]|\\\})", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{([pbB]?matrix)\}(.+)\\end\{\1\}", re.DOTALL)
_MACRO_ARGUMENT = re.compile(r"\\(?:begin|end|mathbb|operatorname)\{[a-zA-Z*]+\}")
_SKIPPED = re.compile(  # what parsers drop without a word, together with one side of it
    r"[?#@']|\.\.|\\[a-zA-Z]*(?:arrow|to|implies|iff|approx|sim|equiv|not|notin|mp|dots)(?![a-zA-Z])"
    r"|(?:[+\-*/^_]|\\cdot|\\times)$|[^\x00-\x7f]|(?<!\\)\{\}"
    r"|[0-9] [0-9]|(?:^|[0-9+\-*/=(,])\{|[0-9)\]}](?:\\\{|\[)|(?:\\\}|\])[0-9(]"  # side by side is added up
)
_CHOICE = re.compile(r"\(?([A-E])[).:] ?(?:(?=[-0-9\\$])(.+))?|([A-E])")
_TIME = re.compile(r"([0-9]{1,2}(?::[0-9]{2})?) ?([ap])\.?m\.?", re.IGNORECASE)
_ROWS = re.compile(r"&|\\\\")
_WORD = re.compile(r"(?<![\\a-zA-Z])[A-Za-z]{2,}")
_FUNCTIONS = frozenset(("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sqrt", "frac"))
_WORDS = frozenset(("no", "not", "non", "is", "the", "for", "if", "any", "all", "but", "yes", "odd", "are", "can"))


def split_at(text: str, separator: str) -> list[str]:
    """Split at a separator outside brackets and braces."""
    depth, parts = 0, [""]
    for piece in re.split(rf"({re.escape(separator)}|[()\[\]{{}}])", text):
        depth += (piece in "([{") - (piece in ")]}") if piece else 0
        if piece == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def choice_in(text: str) -> tuple[str, str]:
    """Letter and value of `(B) 12`; one that is not there is empty."""
    match = _CHOICE.fullmatch(text)
    return (match[1] or match[3], match[2] or "") if match else ("", text)


def time_in(text: str) -> tuple[str, str]:
    """Time and half of the day of `3:00 PM`, "a" or "p"; of any other text all of it, and no half."""
    match = _TIME.fullmatch(text)
    return (match[1], match[2].lower()) if match else (text, "")


def sides_of(text: str) -> list[str]:
    r"""The sides of an equation, or of `x \in S`."""
    return [side for part in split_at(text, "=") for side in split_at(part, r"\in ")]


def members_of(text: str) -> list[str]:
    r"""The members of a list, in brackets or bare, with both values of `a\pm b`."""
    inside = bracketed(text)
    members = []
    for member in inside[1] if inside else split_at(text, ", "):
        both = [normalise(member.replace(r"\pm", sign)) for sign in "+-"] if member.count(r"\pm") == 1 else [member]
        members += both
    return members


def bracketed(text: str) -> tuple[str, list[str]] | None:
    """The kind of brackets around a whole list, and its members; brackets around one member only group."""
    match = _TUPLE.fullmatch(text)
    if not match or len(split_at(text.replace(r"\cup", ","), ",")) > 1:
        return None
    members = split_at(match[2], ", ")
    brackets = (match[1] + match[3]).replace("\\", "")
    if _depth_falls(match[2]) or (len(members) == 1 and brackets != "{}"):
        return None
    return None if RELATION.search(match[2]) or len(split_at(match[2], ":")) > 1 else (brackets, members)


def _depth_falls(text: str) -> bool:
    """Whether a bracket closes that was not opened: `1)(2`."""
    depth = 0
    for character in re.sub(r"[^()\[\]{}]", "", text):
        depth += 1 if character in "([{" else -1
        if depth < 0:
            return True
    return False


def rows_of(text: str) -> list[list[str]] | None:
    """The rows of a matrix."""
    match = _MATRIX.fullmatch(text)
    return [row.split("&") for row in match[2].rstrip("\\").split(r"\\")] if match else None


def unpacked(elements: list[str]) -> list[str]:
    """`(x, y)=(1, 2)` as `x=1, y=2`."""
    inside = [bracketed(side) for side in sides_of(elements[0])] if len(elements) == 1 else []
    if len(inside) != 2 or None in inside or not NAME.fullmatch(sides_of(elements[0])[0]):
        return elements
    names, values = (side[1] for side in inside if side)
    return [f"{name}={value}" for name, value in zip(names, values, strict=True)] if len(names) == len(values) else []


def named_values(elements: list[str]) -> tuple[list[str], list[str]] | None:
    """Names and values of `x=1, y=2`."""
    sides = [sides_of(element) for element in elements]
    if not all(len(of_one) == 2 and NAME.fullmatch(of_one[0]) for of_one in sides):
        return None
    return [name for name, _ in sides], [value for _, value in sides]


def is_constant(sides: list[str]) -> bool:
    """Whether there is no variable in them, nor a name."""
    return not any(re.search(r"(?<![\\a-zA-Z])[a-zA-Z]|\\(?!pi|frac|sqrt|cdot|times)", side) for side in sides)


def is_text(text: str) -> bool:
    """Words, a choice letter, or anything that a parser would skip to get at a number."""
    if _SKIPPED.search(text) or re.fullmatch(r"\(?(?:[A-Z]+|[A-Z][a-z]{2,})\)?", text):
        return True
    if _ROWS.search(text) and r"\begin" not in text:
        return True
    words = _WORD.findall(_MACRO_ARGUMENT.sub("", text))
    return any((len(word) > 3 and word not in _FUNCTIONS) or word.lower() in _WORDS for word in words)
