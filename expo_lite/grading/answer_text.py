"""Writing a final answer in one canonical spelling.

Pure string work, shared by the data sets and the verifier. `normalise` changes spelling only:
two answers with equal normal forms are the same answer. Whether different ones agree is decided in `equivalence`.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from expo_lite.grading.units import currency_behind, without_number_words

MAX_LENGTH = 1000
"""Characters; longer answers are left as they are, so that hostile ones cost nothing."""
_MAX_DIGITS = 400  # of a repeating decimal

_PLAIN = re.compile(r"0|-?[1-9][0-9]{0,30}")


# ------------------------------------------------------------------------------------------- normalisation

_SYMBOLS = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": "/"}
    | {"⁄": "/", "∕": "/", "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "º": r"^\circ ", "≤": r"\le ", "≥": r"\ge "}
    | {"≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset "}
    | {
        "θ": r"\theta ",
        "α": r"\alpha ",
        "β": r"\beta ",
        "λ": r"\lambda ",
        "ℝ": r"\mathbb{R}",
        "’": "'",
        "′": "'",
        "、": ", ",
    }
)
_SUPERSCRIPTS, _SUBSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "₀₁₂₃₄₅₆₇₈₉₊₋ₙ"
_TO_LINE = str.maketrans(_SUPERSCRIPTS + _SUBSCRIPTS, "0123456789+-n" * 2)

_NAMED = r"\\(?:pi|infty|alpha|beta|gamma|delta|theta|lambda|mu|sigma|omega|phi|varphi|rho|tau)(?![a-zA-Z])"
_ONE = rf"([0-9a-zA-Z]|{_NAMED})"
_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Marks around the answer that say nothing about its value.
        (r"\\\$|\$|\\\(|\\\)|(?<!\\)\\\[|(?<!\\)\\\]", ""),
        (r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?)(?![a-zA-Z])\.?|\\!|\\displaystyle(?![a-zA-Z])", ""),
        (r"\\(?:text)?color\s*\{[a-zA-Z]*\}\s*(?:\{([^{}]*)\})?", r"\1"),
        (r"\\(?:boldsymbol|bm|mathit|underline|pmb)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|rm)\s*\{([^{}]*)\}", r" \1 "),
        (r"\*\*", "^"),
        # Thousands: a separator that can be nothing else, a bare space, a bare comma (not inside brackets).
        (r"(?<=[0-9])(?:\\[,;: ]|\{,\}|\{\\,\})(?=[0-9]{3}(?![0-9]))", ""),
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])", " "),
        # One name for one thing.
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
        (r"\\langle ?", "("),
        (r"\\rangle(?![a-zA-Z])", ")"),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        (r"(?i)^(?:there (?:is|are) )?no solutions?\.?$|^(?:the )?empty set$|^\\\{ ?\\\}$", r"\\emptyset"),
        (r"\\(le|ge|ne)q(?![a-zA-Z])", r"\\\1"),
        (r"\\%", "%"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"!=", r"\\ne "),
        (r"(?<![a-zA-Z])(sq|cu)\.(?= ?[a-z])", r"\1 "),
        (r"\\pounds(?![a-zA-Z]) ?", "£"),
        (r"\\euro(?![a-zA-Z]) ?", "€"),
        (r"(?<![a-zA-Z\\{])pi(?![a-zA-Z])", r"\\pi "),
        (r"(?<![a-zA-Z\\])(?:infinity|inf)(?![a-zA-Z])", r"\\infty "),
        (r"(?<![a-zA-Z\\])sqrt\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"√\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"√\s*([0-9]+|[a-zA-Z])", r"\\sqrt{\1}"),
        (r"\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?|\\degree(?![a-zA-Z])", r"^\\circ "),
        (r"(?<=[0-9]) ?(?:和|或|与|及) ?(?=[-0-9])", ", "),
        (r"(?<=[0-9])又(?=[0-9])", " "),
        (r"([0-9]+)分之([0-9]+)", r"\\frac{\2}{\1}"),
        # LaTeX arguments without braces get them; single-character exponents and indices lose them.
        (rf"\\sqrt\s*(\[[^\[\]{{}}]*\]|)\s*{_ONE}", r"\\sqrt\1{\2}"),
        (rf"\\(frac|binom)\s*{_ONE}", r"\\\1{\2}"),
        (rf"(\\(?:frac|binom)\s*{_GROUP})\s*{_ONE}", r"\1{\2}"),
        (r"\{([^{}]*?) ?\\choose(?![a-zA-Z]) ?([^{}]*)\}", r"\\binom{\1}{\2}"),
        (rf"\^\s*(\\frac{_GROUP}{_GROUP}|\\sqrt{_GROUP})", r"^{\1}"),
        (r"([\^_])(-[0-9]+|[0-9]{2,})", r"\1{\2}"),
        (r"([\^_])\{([0-9a-zA-Z])\}(?![0-9])", r"\1\2"),
        (r"(\\log_(?:\w|\{\w+\})) ?\{?([0-9]+|[a-z])\}?(?![\w^_.({!])", r"\1(\2)"),
        # White space: kept only between two letters or digits, and after a comma.
        (r"\s+", " "),
        (r"(?<![0-9A-Za-z,]) | (?![0-9A-Za-z])", ""),
        (r"(?<![a-zA-Z\\]),? ?(?:and|or) ?(?![a-zA-Z])", ", "),
        (r"(?<!\\);", ", "),
        (r"(?<=[^0-9]),(?=[^ ])|(?<=[0-9]),(?=[^ 0-9])", ", "),
        (r"(?<=[0-9}])\\frac\{([a-z]{2,})\}\{([a-z]+)\}", r" \1/\2"),
        # Dropping a full stop or braces around everything, and signs and zeros that carry no value.
        (r"(?<![.\\])[.,]$", ""),
        (r"^\{([^{}]*)\}$", r"\1"),
        (r"^\+(?=[0-9.\\(a-zA-Z])", ""),
        (r"^(-?)0+(?=[0-9])", r"\1"),
        (r"(?<![0-9a-zA-Z.}])\.(?=[0-9])", "0."),
        (r"^-0$", "0"),
    )
)
_SPACED = re.compile(r"(?<![0-9A-Za-z.,^_ ])([1-9][0-9]{0,2}(?: [0-9]{3})+)(?![0-9/]| [0-9])")
_COMMAS = re.compile(r"(?<![0-9.,] )(?<![0-9.,])([1-9][0-9]{0,2}(?:,[0-9]{3})+)(?![0-9])(?!, ?[0-9])")
_MIXED = re.compile(r"(?<![\w.}^/])([0-9]+) ?(?:(?<= )([0-9]+)/([0-9]+)|\\frac\{([0-9]+)\}\{([0-9]+)\})(?![0-9./])")
_REPEATING = re.compile(r"(?<![0-9])([0-9]*)\.([0-9]*)\\(?:overline|bar)\s*\{?([0-9]+)\}?")
_DOTTED = re.compile(r"(\.[0-9]*)\\dot\s*\{?([0-9])\}?(?:([0-9]*)\\dot\s*\{?([0-9])\}?)?")
_GOES_ON = re.compile(r"(?<![0-9.])([0-9]*\.)([0-9]{3,40})(?:\.\.\.|\\[lc]?dots(?![a-zA-Z]))(?![0-9a-zA-Z.])")
_PERIOD = re.compile(r"([0-9]*?)([0-9]+?)\2+")
_UNION = re.compile(r",? ?(?<![a-zA-Z\\])or(?![a-zA-Z]) ?|\\(?:lor|vee)(?![a-zA-Z])")
RELATION = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-zA-Z])")
"""The sign of an inequality, in normal form."""


@lru_cache(maxsize=8192)
def normalise(answer: str) -> str:
    """Return the canonical spelling of an answer; applying it twice changes nothing more."""
    text = answer.strip()
    if _PLAIN.fullmatch(text) or len(text) > MAX_LENGTH:
        return text
    for _ in range(MAX_LENGTH):  # one rewrite may open the way for another: on to the fixed point
        before, text = text, _rewrite(text)
        if text == before or len(text) > MAX_LENGTH:
            break
    return text


def _rewrite(text: str) -> str:
    """Apply every rewrite once."""
    if not text.isascii():
        text = _latex_from_unicode(text)
    if r"\begin" not in text:  # else a double backslash ends a matrix row
        text = re.sub(r"\\\\+(?=[a-zA-Z])", r"\\", text)
    text = currency_behind(without_number_words(text))
    if RELATION.search(text):  # `x<1 or x>2` is a union; any other `or` makes a list
        text = _UNION.sub(r"\\cup ", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _SPACED.sub(lambda match: match.group().replace(" ", ""), text)
    if not re.search(r"[(\[]|\\\{", text):  # in brackets, 1,200 is two numbers
        text = _COMMAS.sub(lambda match: match.group().replace(",", ""), text)
    text = re.sub(r"(?<=[0-9]),(?=[0-9])", ", ", text)  # whatever is left separates a list
    text = _DOTTED.sub(r"\1\\overline{\2\3\4}", _GOES_ON.sub(_with_period, text))
    return _MIXED.sub(_mixed_number, _REPEATING.sub(_repeating_decimal, text)).strip()


def _latex_from_unicode(text: str) -> str:
    """Replace fractions, exponents, indices and signs written as single characters."""
    text = re.sub("[½⅓⅔¼¾⅐-⅞]", lambda match: _vulgar_fraction(match.group()), text)
    for characters, mark in ((_SUPERSCRIPTS, "^"), (_SUBSCRIPTS, "_")):
        text = re.sub(f"[{characters}]+", lambda run, mark=mark: f"{mark}{{{run.group().translate(_TO_LINE)}}}", text)
    return unicodedata.normalize("NFKC", text.translate(_SYMBOLS)).translate(_SYMBOLS)


def _vulgar_fraction(character: str) -> str:
    value = Fraction(unicodedata.numeric(character)).limit_denominator(10)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _mixed_number(match: re.Match[str]) -> str:
    r"""`1 1/2` and `1\frac{1}{2}` -> `\frac{3}{2}`; `2\frac{5}{3}` stays: that is a product."""
    whole, top, bottom = (int(part) for part in match.groups() if part is not None)
    return rf"\frac{{{whole * bottom + top}}}{{{bottom}}}" if top < bottom else match.group()


def _repeating_decimal(match: re.Match[str]) -> str:
    r"""`0.1\overline{6}` -> `\frac{1}{6}`."""
    whole, fixed, repeating = match.groups()
    if len(match.group()) > _MAX_DIGITS:
        return match.group()
    value = int(whole + fixed + repeating) - int(whole + fixed or "0")
    fraction = Fraction(value, (10 ** len(repeating) - 1) * 10 ** len(fixed))
    return rf"\frac{{{fraction.numerator}}}{{{fraction.denominator}}}"


def _with_period(match: re.Match[str]) -> str:
    r"""`0.1666...` -> `0.1\overline{6}`; without two periods, of three digits in all, what follows is unknown."""
    found = _PERIOD.fullmatch(match[2])
    if not found or len(match[2]) - len(found[1]) < 3:
        return match.group()
    return rf"{match[1]}{found[1]}\overline{{{found[2]}}}"
