"""The answer in what a data set's column of answers holds: a worked solution, a sentence, or the answer alone."""

from __future__ import annotations

import json
import re

from expo_lite.grading.answer_text import boxed_answer


class Unmarked(Exception):
    """Why the answer cannot be told from its text."""


_LEAD = re.compile(
    r"(?:\b(?:(?:the |final )*answer|the (?:final )?result)\s*(?:is\b|=|:|：)|答案\s*(?:是|为|：|:))[\s:：]*",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(r"(?:thus|so|hence|therefore|total|sum)\b[\s,:]", re.IGNORECASE)
_HEADING = re.compile(r"(?:final )?answer\s*\n\s*", re.IGNORECASE)
_BOLD = re.compile(r"(?<![\w)*])(\*\*|__)(?=\S)([^*\n]+?)(?<=\S)\1(?![\w(*])")
_WRAPPED = re.compile(r"`+([^`]+)`+|\*([^*]+)\*|<(\w+)>(.+)</\3>", re.DOTALL)
_LATEX = re.compile(r"\\(?:text|mbox|textbf|mathrm|operatorname|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+|\$[^$]*\$")
_WORD = re.compile(r"[^\W\d_]{2,}")
_NO_ANSWER = re.compile(r"\b(?:because|since|which|therefore|thus|hence|step)\b|[.!?。]\s+\S", re.IGNORECASE)


def gold_answer(text: str) -> str:
    r"""Return a data set's answer, without Markdown's marks around it.

    It is the last box (also MATH's `\boxed 5`), else what follows the last `####` on its line, else what follows "the
    answer is", else all of the text. Raises Unmarked where that is more than an answer.
    """
    if boxed := boxed_answer(text):
        return boxed
    if "####" in text:
        marked = _unwrapped(_HEADING.sub("", text.rsplit("####", 1)[1].strip(), count=1))
        lead = _LEAD.match(marked)
        return _without_stop(_first_line(marked[lead.end() :])) if lead else _first_line(marked)
    plain = _unwrapped(text.strip())
    leads = list(_LEAD.finditer(plain))
    if leads and (rest := plain[leads[-1].end() :]):
        answer = _without_stop(_first_line(rest))
        if _is_prose(answer):
            raise Unmarked(r"is a sentence that goes on after its answer; mark the answer by \boxed{} or ####")
        return answer
    lines = [line for line in plain.splitlines() if line.strip()]
    if len(lines) > 1 and (any(map(_is_prose, lines)) or any(len(_words(line)) > 1 for line in lines[1:])):
        raise Unmarked(r"has several lines; mark the answer by \boxed{} or ####")
    if _CONCLUSION.match(plain):
        raise Unmarked(r"is a sentence around its answer; mark the answer by \boxed{} or ####")
    return _only(plain)


def _first_line(text: str) -> str:
    """The first line of a text that begins with the answer; all of it where the first opens what others close."""
    first, *more = (line.strip() for line in text.strip().splitlines() or [""])
    if not more:
        return _unwrapped(first)
    if _is_closed(first) and not _is_prose(first):
        return _unwrapped(first)
    if any(len(_words(line)) > 1 for line in (first, *more)):
        raise Unmarked("has several lines where the answer should stand alone")
    return text.strip()


def _without_stop(sentence: str) -> str:
    return sentence.rstrip(".。").rstrip()


def _is_closed(text: str) -> bool:
    pairs = (("{", "}"), ("(", ")"), (r"\begin", r"\end"), (r"\[", r"\]"))
    return all(text.count(a) == text.count(b) for a, b in pairs) and text.count("$") % 2 == 0 and text != "$$"


def _is_prose(text: str) -> bool:
    return len(_words(text)) > 3 or bool(_NO_ANSWER.search(text))


def _words(text: str) -> list[str]:
    """The words that are neither LaTeX nor inside of it."""
    return _WORD.findall(_LATEX.sub(" ", text))


def _unwrapped(text: str) -> str:
    """Without bold marks, and without the marks of Markdown or a tag around all of the text."""
    text = _BOLD.sub(r"\2", text)
    whole = _WRAPPED.fullmatch(text)
    return _unwrapped((whole[1] or whole[2] or whole[4]).strip()) if whole else text


def _only(text: str) -> str:
    r"""The one text in a JSON list such as `["\\frac12"]`, as some data sets have it; other texts as they are."""
    if not text.startswith('["'):
        return text
    try:
        (answer,) = json.loads(text)
    except ValueError:
        raise Unmarked("is a list; it should be one answer") from None
    return str(answer).strip()
