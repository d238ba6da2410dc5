"""Units of quantities and words that multiply: `3 square metres` is 3 and m^2, `7 million` is 7,000,000.

What may be left out of an answer stands in a list here; a word that does not is no unit, and then the answer is text.
"""

from __future__ import annotations

import re

_UNIT_NAMES = (
    "mm millimeter millimetre|cm centimeter centimetre|dm decimeter decimetre|m meter metre|km kilometer kilometre"
    "|in inch inches|ft foot feet|yd yard|mi mile|g gram gramme|kg kilogram kilo|mg milligram|ton tonne|lb lbs pound"
    "|oz ounce|l L liter litre|ml milliliter millilitre|gal gallon|qt quart|pt pint|cup|tablespoon|teaspoon|acre"
    "|hectare|mph|kmh kph|s sec second|min minute|h hr hrs hour|day|week|month|yr year|decade|century centuries"
    "|% percent pct percentage|deg degree|rad radian|dollar usd buck|cent penny pennies|dime|nickel"
    "|euro eur|gbp|rupee rs inr|yen jpy|yuan rmb cny 元|won krw|hz hertz|khz|mhz|N newton|J joule|kj|W watt|kw|V volt"
    "|amp ampere|pa pascal|mol mole|kelvin|calorie|kcal|byte|kb|mb|gb|sq square|cu cubic|per|unit"
    "|米|厘米|毫米|分米|千米 公里|平方米|平方厘米|立方米|立方厘米|克|千克 公斤|吨|升|毫升|度|小时|分钟|秒|天|年|岁"
    "|个|只|本|人|次|张|支|条|块|件|位|名|种|页|棵|辆|双|袋|箱|瓶|组|道|圈|朵|头|匹|间|台|枚|颗|根|棟"
)
_COUNTED = (
    "animal ant apple arrangement baby bag bagel ball balloon banana bar barrel basket bead bean bear bed bee beetle "
    "bicycle bike bill bird block boat bolt book bottle bouquet bowl box boxcar boy bracelet branch bread brick "
    "brother brownie bucket bug bunny burger bus bush butterfly button cabbage cake can candle candy car card carrot "
    "case cat chair chapter cherry chess chicken child children chip chocolate choice circle city class clip clown "
    "coin color colour combination committee computer cone cookie corner cousin cow crab crate crayon crumb cucumber "
    "cupcake customer daisy desk diagonal digit dish dog doll dolphin donut door dot dress drink driver duck eagle "
    "edge egg elephant employee envelope eraser face factor family fan farmer fence fish flag flower fly friend frog "
    "fruit game gift girl glass goal goat grade grape group guest guitar guppy hamburger hat hen horse house insect "
    "integer invitation item jar jewel key kid kite kitten knife knives ladder lamp lap leaf leaves leg lemon lesson "
    "letter light lily line lion loaf loaves lollipop lunch machine magazine man mango marble mark marker match meal "
    "member men mice monkey mouse movie muffin mug nail necklace necktie neighbor neighbour note notebook number nut "
    "oak onion orange outcome outfit owl oyster page panda paper paperclip parent parrot part passenger path "
    "peach peanut pear pearl pebble pen pencil penguin people person pet phone photo photograph piano picture pie "
    "piece pig pillow pineapple pizza plant plate player plum point potato present problem pumpkin pupil puppy "
    "question quiz rabbit race rectangle ribbon ring robot rock room root rope rose round row sack salad sandwich "
    "scarf scoop seat seed shark sheep shelf shell shelves shirt shoe shop shot sibling side sister slice snack snake "
    "sock soda soldier song spider spoon stamp star step stick sticker stone store story strawberry student subset "
    "sweater swimmer table team term test ticket tile tomato tool tourist toy trail train tray treat tree triangle "
    "trip truck tulip turtle value vase vegetable vertex vertices video visitor walnut watermelon way whale wheel "
    "window wolf wolves woman women word worker zebra"
)
_DESCRIBING = (
    "adult average big black blue different extra full green large left long new of old pink red small total "
    "white yellow"
)
_ALIASES = {name: names.split()[0] for names in _UNIT_NAMES.split("|") for name in names.split()}
_NOUNS = frozenset(f"{_COUNTED} {_DESCRIBING}".split())
_KNOWN = frozenset(_ALIASES.values()) | _NOUNS
_NEVER_LAST = frozenset(("sq", "cu", "per", "of"))
_NO_UNIT_WORDS = (
    "no not nor or and if is are was but maybe perhaps never none null undefined solution impossible mod modulo times "
    "plus minus sin cos tan cot sec csc log ln exp sqrt frac wrong right negative positive squared cubed factorial "
    "choose prime doubled tripled half twice double triple power inverse halved even odd pi infinity"
)
_NO_UNITS = frozenset(_NO_UNIT_WORDS.split())

# ---------------------------------------------------------------------------------------------- words that multiply

_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12, "百": 2, "千": 3, "万": 4, "亿": 8}
_PARTS = (
    "half halves|third|quarter fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|twentieth|hundredth"
    "|thousandth|millionth"
)
_BOTTOMS = dict(zip(_PARTS.split("|"), (*range(2, 13), 20, 100, 1000, 10**6), strict=True))
_MULTIPLIERS = (
    {word: rf"\cdot 10^{power}" if power < 10 else rf"\cdot 10^{{{power}}}" for word, power in _POWERS.items()}
    | {"dozen": r"\cdot 12"}
    | {name: f"/{bottom}" for names, bottom in _BOTTOMS.items() for name in names.split()}
)
_MULTIPLYING = re.compile(
    rf"(?<=[0-9}}])[ -]?({'|'.join(_MULTIPLIERS)})s?(?![a-zA-Z])(?!米|克|瓦)(?: of(?= [a-z]))?", re.IGNORECASE
)
_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SPELT = {word: value for value, word in enumerate(_TO_NINETEEN.split())} | {
    f"{tens}-{ones}".removesuffix("-zero"): 10 * n + m
    for n, tens in enumerate(_TENS.split(), 2)
    for m, ones in enumerate(_TO_NINETEEN.split()[:10])
}
_PREFIXES = {"€": "euro", "£": "gbp", "¥": "yen", "₹": "rupee", "₩": "won", "EUR": "euro", "GBP": "gbp", "JPY": "yen"}
_PREFIXES |= {"Rs": "rupee", "INR": "rupee", "USD": "dollar", "US": "dollar", "CNY": "yuan", "RMB": "yuan"}
_PREFIXES[r"\$"] = "dollar"
_NAMES = "|".join(map(re.escape, _PREFIXES))
_CURRENCY = re.compile(rf"\$?(?:(-?)({_NAMES})\.? ?(-?[0-9][0-9.,]*)|(-?[0-9][0-9.,]*) ?({_NAMES}))\$?")


def without_number_words(text: str) -> str:
    r"""Return a text with digits for number words: `7 million` -> `7\cdot 10^6`, `7 thirds` -> `7/3`, `six` -> `6`."""
    first, _, second = text.casefold().partition(" ")
    if first in _SPELT and (not second or second in _MULTIPLIERS):
        text = f"{_SPELT[first]} {second}".strip()
    elif first in _MULTIPLIERS and first.isascii() and not second:
        text = f"1 {first}"
    return _MULTIPLYING.sub(lambda match: _MULTIPLIERS[match.group(1).lower()], text)


def currency_behind(text: str) -> str:
    """Return an amount with its currency as a unit: `€45` -> `45 euro`."""
    match = _CURRENCY.fullmatch(text)
    if not match:
        return text
    sign, name, amount = (match[1], match[2], match[3]) if match[2] else ("", match[5], match[4])
    return f"{sign}{amount} {_PREFIXES[name]}"


# ------------------------------------------------------------------------------------------------------- quantities

_VALUE = r"-?(?:[0-9.+\-*/^{}()]|\\(?:frac|sqrt|pi|cdot|times)(?![a-zA-Z])(?: (?=[0-9]))?)+"
_WORD = r"(?:[a-zA-Z]+\.?(?:\^[0-9])?|[\u4e00-\u9fff]+)"
_BASE = r"_[0-9a-z]|_\{[0-9a-z]+\}"
_QUANTITY = re.compile(
    rf"({_VALUE})(%|\^\\circ ?[CF]?|{_BASE}| ?{_WORD}(?:[ /]{_WORD}){{0,3}})|([0-9A-F]+)(_\{{1[0-9]\}})"
)


def split_unit(text: str, also: frozenset[str] = frozenset(), trusted: bool = False) -> tuple[str, str]:
    """Split a quantity in normal form into value and canonical unit: `3 square metres` -> `("3", "m^2")`.

    A percent sign, degrees and the base of a number (`101_2` -> `("101", "_2")`) count as units. Without a number in
    front or known words behind it, the unit is empty and the value is the whole text. Known are the lists' words and
    `also`; of a trusted text, a known answer's, any word that says nothing of the value is taken for a unit.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        return text, ""
    value, unit = match.group(1) or match.group(3), match.group(2) or match.group(4)
    if (not unit[-1].isalpha() and unit[0] in "%^_") or unit[0] in "^_":
        return value, unit.replace(" ", "").replace(r"^\circ", "deg")
    words = _names(unit)
    apart = unit[0] == " " or not unit.isascii()
    known = also.issuperset(words) or (_KNOWN.issuperset(words) and (apart or min(map(len, words)) > 1))
    guessed = trusted and apart and not any(len(word) < 3 or word in _NO_UNITS for word in words)
    if not (known or guessed) or words[-1] in _NEVER_LAST:
        return text, ""  # 3x and 3 xy are products, and so may 3m be; "3 or no solution" is not a quantity
    canonical = re.sub(_WORD, lambda word: _canonical(word.group()), unit.strip()).replace(" per ", "/")
    return value, re.sub(r"(sq|cu) (\w+)", lambda power: f"{power[2]}^{2 if power[1] == 'sq' else 3}", canonical)


def unit_words(unit: str) -> frozenset[str]:
    """Return the canonical names of the words of a unit."""
    return frozenset(_names(unit))


def _names(unit: str) -> list[str]:
    return [_singular(word) for word in re.findall(r"[a-zA-Z]+|[\u4e00-\u9fff]+", unit)]


def _canonical(word: str) -> str:
    name, power, exponent = word.rstrip(".").partition("^")
    return _singular(name) + power + exponent


def _singular(word: str) -> str:
    """Return the canonical name of one word of a unit."""
    word = word if len(word) == 1 else word.lower()  # 7 M is no 7 m
    endings = (("", ""), ("s", ""), ("es", ""), ("ies", "y")) if len(word) > 3 else (("", ""),)
    forms = [word.removesuffix(plural) + single for plural, single in endings if word.endswith(plural)]
    known = next((form for form in forms if form in _ALIASES or form in _NOUNS), forms[:2][-1])
    return _ALIASES.get(known, known)
