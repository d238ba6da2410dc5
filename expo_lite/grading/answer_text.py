"""Finding the final answer in a text and writing it in one canonical spelling.

Pure string work, shared by the data sets and the verifier. `normalise` changes spelling only:
two answers with equal normal forms are the same answer. Whether different ones agree is decided in `equivalence`.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

MAX_LENGTH = 1000
"""Characters; longer answers are left as they are, so that hostile ones cost nothing."""
MAX_DIGITS = 400
"""Characters of the longest number that is read exactly (exponents have up to three digits)."""

_BRACES = re.compile(r"\\{1,4}(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_PLAIN = re.compile(r"0|-?[1-9][0-9]{0,30}")


def boxed_answer(text: str) -> str | None:
    r"""Return the stripped content of the last balanced `\boxed{...}` or `\fbox{...}`; None without one or if empty."""
    start, end = boxed_place(text)
    return text[start:end].strip() or None


def boxed_place(text: str) -> tuple[int, int]:
    r"""Return where the content of the last balanced box starts and ends, (0, 0) without one; linear, by a stack."""
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
    return last


# ------------------------------------------------------------------------------------------- normalisation

_SYMBOLS = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": "/"}
    | {"⁄": "/", "∕": "/", "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "º": r"^\circ ", "≤": r"\le ", "≥": r"\ge "}
    | {"≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset "}
    | {"θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "λ": r"\lambda ", "ℝ": r"\mathbb{R}", "’": "'", "′": "'"}
)
_SUPERSCRIPTS, _SUBSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "₀₁₂₃₄₅₆₇₈₉₊₋ₙ"
_TO_LINE = str.maketrans(_SUPERSCRIPTS + _SUBSCRIPTS, "0123456789+-n" * 2)

_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Marks around the answer that say nothing about its value.
        (r"\\\$|\$|\\\(|\\\)|(?<!\\)\\\[|(?<!\\)\\\]", ""),
        (r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?)(?![a-zA-Z])\.?|\\!|\\displaystyle(?![a-zA-Z])", ""),
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|rm)\s*\{([^{}]*)\}", r" \1 "),
        (r"\*\*", "^"),
        # Thousands: a separator that can be nothing else, a bare space, a bare comma (not inside brackets).
        (r"(?<=[0-9])(?:\\[,;: ]|\{,\}|\{\\,\})(?=[0-9]{3}(?![0-9]))", ""),
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])", " "),
        # One name for one thing.
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        (r"\\(le|ge|ne)q(?![a-zA-Z])", r"\\\1"),
        (r"\\%", "%"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"!=", r"\\ne "),
        (r"(?<![a-zA-Z\\{])pi(?![a-zA-Z])", r"\\pi "),
        (r"(?<![a-zA-Z\\])(?:infinity|inf)(?![a-zA-Z])", r"\\infty "),
        (r"(?<![a-zA-Z\\])sqrt\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"√\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"√\s*([0-9]+|[a-zA-Z])", r"\\sqrt{\1}"),
        (r"\^\s*\{?\s*\\circ(?![a-zA-Z])\s*\}?|\\degree(?![a-zA-Z])", r"^\\circ "),
        # LaTeX arguments without braces get them; single-character exponents and indices lose them.
        (r"\\sqrt\s*([0-9a-zA-Z])", r"\\sqrt{\1}"),
        (r"\\frac\s*([0-9])\s*([0-9])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([0-9])\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9])", r"\1{\2}"),
        (r"([\^_])(-[0-9]+|[0-9]{2,})", r"\1{\2}"),
        (r"([\^_])\{([0-9a-zA-Z])\}(?![0-9])", r"\1\2"),
        # White space: kept only between two letters or digits, and after a comma.
        (r"\s+", " "),
        (r"(?<![0-9A-Za-z,]) | (?![0-9A-Za-z])", ""),
        (r"(?<![a-zA-Z\\]),? ?(?:and|or) ?(?![a-zA-Z])", ", "),
        (r"(?<=[^0-9]),(?=[^ ])|(?<=[0-9]),(?=[^ 0-9])", ", "),
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
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _SPACED.sub(lambda match: match.group().replace(" ", ""), text)
    if not re.search(r"[(\[]|\\\{", text):  # in brackets, 1,200 is two numbers
        text = _COMMAS.sub(lambda match: match.group().replace(",", ""), text)
    text = re.sub(r"(?<=[0-9]),(?=[0-9])", ", ", text)  # whatever is left separates a list
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
    if len(match.group()) > MAX_DIGITS:
        return match.group()
    value = int(whole + fixed + repeating) - int(whole + fixed or "0")
    fraction = Fraction(value, (10 ** len(repeating) - 1) * 10 ** len(fixed))
    return rf"\frac{{{fraction.numerator}}}{{{fraction.denominator}}}"


# ------------------------------------------------------------------------------------------------------ units

_UNIT_NAMES = (
    "mm millimeter millimetre|cm centimeter centimetre|m meter metre|km kilometer kilometre|in inch inches|ft foot feet"
    "|yd yard|mi mile|g gram|kg kilogram|mg milligram|lb lbs pound|oz ounce|l liter litre|ml milliliter millilitre|mph|"
    "s sec second|min minute|h hr hrs hour|% percent|deg degree|dollar usd|cent|rad radian|sq square|cu cubic|per"
)
_ALIASES = {name: names.split()[0] for names in _UNIT_NAMES.split("|") for name in names.split()}
_UNITS = frozenset(_ALIASES.values())
_NO_UNIT_WORDS = (
    "no not nor or and if is are was but maybe perhaps never none null undefined solution solutions impossible mod "
    "modulo times plus minus sin cos tan cot sec csc log exp sqrt frac wrong right left"
)
_NO_UNITS = frozenset(_NO_UNIT_WORDS.split())
_VALUE = r"-?(?:[0-9.+\-*/^{}()]|\\(?:frac|sqrt|pi|cdot|times)(?![a-zA-Z])(?: (?=[0-9]))?)+"
_WORDS = r"[a-zA-Z]+(?:\^[0-9])?(?:[ /][a-zA-Z]+(?:\^[0-9])?){0,3}"
_BASE = r"_[0-9a-z]|_\{[0-9a-z]+\}"
_QUANTITY = re.compile(rf"({_VALUE})(%|\^\\circ ?[CF]?|{_BASE}| ?{_WORDS})|([0-9A-F]+)(_\{{1[0-9]\}})")


def split_unit(text: str) -> tuple[str, str]:
    """Split a normalised quantity into value and canonical unit: `3 square metres` -> `("3", "m^2")`.

    A percent sign, degrees and the base of a number (`101_2` -> `("101", "_2")`) count as units. Without a number in
    front or a plausible unit behind it, the unit is empty and the value is the whole text.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        return text, ""
    value, unit = match.group(1) or match.group(3), match.group(2) or match.group(4)
    if (not unit[-1].isalpha() and unit[0] in "%^_") or unit[0] in "^_":
        return value, unit.replace(" ", "").replace(r"^\circ", "deg")
    words = [_singular(word) for word in re.findall(r"[a-zA-Z]+", unit)]
    known = _UNITS.issuperset(words)
    if not known and (unit[0] != " " or any(len(word) < 3 or word in _NO_UNITS for word in words)):
        return text, ""  # 3x and 3 xy are products, "3 or no solution" is not a quantity
    canonical = re.sub(r"[a-zA-Z]+", lambda word: _singular(word.group()), unit.strip()).replace(" per ", "/")
    return value, re.sub(r"(sq|cu) (\w+)", lambda power: f"{power[2]}^{2 if power[1] == 'sq' else 3}", canonical)


def _singular(word: str) -> str:
    """Return the canonical name of one word of a unit."""
    word = word.lower()
    single = word[:-1] if len(word) > 3 and word.endswith("s") else word
    return _ALIASES.get(word) or _ALIASES.get(single) or single
