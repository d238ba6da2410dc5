"""Whether an explanation derives its answer or merely names it. Patterns only; imports no torch.

What names the answer is made of the answer, of the question's words and of a few others ("so the final answer is"). A
derivation has a calculation, or says something new.
"""

from __future__ import annotations

import re

from expo_lite.core.records import Problem
from expo_lite.grading.answer_text import boxed_answer

NEW_WORDS = 2
"""That neither the question nor the answer has, nor the phrases around an answer."""
WEIGHTS = {"character": 0.5, "number": 2.0, "word": 1.0}
"""In words: of a script without blanks; of two digits and more, an intermediate result; of anything else."""

_NAMING_WORDS = """
a an the is are was be it its this that these there here so thus hence therefore then and or as of to in for
with by at on we i you get have has obtain need find given sure let us s answer answers final correct right
true result results solution value total option choice number question problem means must should would will
can indeed dollars text boxed left cdot mathrm quad
"""
_NAMING = frozenset(_NAMING_WORDS.split())
_NAMING_IN_CHINESE = frozenset(
    "的是为了所以因此故而且这那个题目本问答案正确最终后结果选项应该等于即就有得出到我们解可知综上述"
)
_OPERATOR = r"(?:[+\-*/×÷·^]|\\(?:times|cdot|div|[dt]?frac|sqrt|binom)(?![a-z]))"
_CALCULATION = re.compile(rf"[\w§)}}!]\s*\$?\s*{_OPERATOR}\s*\$?\s*[\w§({{\\]|\\(?:[dt]?frac|sqrt|binom)(?![a-z])|\d!")
_RELATION = re.compile(r"[=≈<>≤≥⇒→]|\\(?:approx|leq?|geq?|equiv|implies|Rightarrow|to)(?![a-z])")
_WITHOUT_BLANKS = r"\u3040-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(rf"[{_WITHOUT_BLANKS}]|\d+(?:[.,]\d+)*|[^\W\d_{_WITHOUT_BLANKS}]+")


def derives(text: str, problem: Problem) -> bool:
    """Whether a text holds a step towards the problem's answer, beside naming the question and the answer."""
    named = {problem.answer.strip(), (boxed_answer(text) or "").strip()} - {""}
    for answer in sorted(named, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(answer)}(?!\w|\.\d)", "§", text)
    if _CALCULATION.search(text) and _RELATION.search(text):
        return True
    known = _tokens(f"{problem.asked} {problem.answer}") | _NAMING | _NAMING_IN_CHINESE
    new = _tokens(text) - known
    return sum(WEIGHTS[_kind(token)] for token in new) >= NEW_WORDS


def _tokens(text: str) -> set[str]:
    return {token.lower().replace(",", "") for token in _TOKEN.findall(text)}


def _kind(token: str) -> str:
    if re.match(f"[{_WITHOUT_BLANKS}]", token):
        return "character"
    return "number" if re.match(r"\d\S", token) else "word"
