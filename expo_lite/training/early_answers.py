"""Where an explanation speaks of the known answer before it has arrived at it. Patterns only; imports no torch.

A derivation names its answer first as a result: behind an equals sign, after "gives" or "so there are". Whoever was
told it names it earlier: as an aim ("we want to get 77"), as a claim to check ("let's verify that 13"), as what another
result should have been ("this is not 28"), or before the calculations that lead there. So the first mention decides.
"""

from __future__ import annotations

import re
from functools import lru_cache

from expo_lite.core.boxes import boxed_place

WINDOW = 100  # characters looked at on either side of a mention, so that the time is linear in the text
LONGEST = 60  # characters of an answer; the words of a longer one may well come early


def _any_of(*patterns: str) -> re.Pattern[str]:
    """Any of the patterns; END stands for the mention's place, NEAR for a few words without a calculation."""
    text = "|".join(patterns).replace("END", r"\W*\Z").replace("NEAR", r"[^=+*×÷:,]{0,40}(?:[a-z] ?= ?)?\Z")
    return re.compile(text, re.IGNORECASE)


# Words that a derivation does not use of its result, wherever it names it. The question's own words do not count.
_TOLD = _any_of(
    r"\b(?:stat(?:ed|ing|es)|claim\w*|told|tells|said|says|inform\w*|mention\w*|quoted|assert\w*|declar\w*|specified|hint\w*|"
    r"indicated|suggest\w*|prompt\w*|reveal\w*|designated|provided|supplied|(?<!as )expected|expecting|intended|known|"
    r"predicted|justif\w*|explain\w*|rational\w*|reproduc\w*|validat\w*|substantiat\w*|establish\w*|accurate|consistent|"
    r"coincid\w*|in line|lines up|tall(?:y|ies)|in accordance|indeed|makes sense|desired)\b",
    r"题[目中里干]所?(?:给|说|告|示|写|列|提)|告知|告诉|得知|提示|解释|给定|所给|给出的|给的|提供|吻合|证实|印证|合理|明明|指定|"
    r"参考|标准|期望|预期|对上|答案确实|证明了|你说|您说|正确性|结论|要求的",
)
# The same of a first mention that is no result: what is aimed at, checked, explained or held against another result.
_EARLY = _any_of(
    r"\b(?:given|verif\w*|confirm\w*|prov(?:e|es|ing|en)|demonstrat\w*|show|shows|explanation|reasons?|accord\w*|agrees?|"
    r"match\w*|correspond\w*|contradict\w*|disagree\w*|conflict\w*|mismatch\w*|discrepan\w*|falls? short|exceeds?|"
    r"suppos\w*|assum\w*|aim\w*|goal|target|hope\w*|why|must|not|instead of|rather than|differ\w*|however|actual|"
    r"actually|true|valid|holds|they say|understand|satisf\w*|reach\w*|achiev\w*|leads? to|named|listed|response|"
    r"qualifies|wait|in fact|required|follows from|comes? (?:from|about)|was found)\b|n't\b",
    r"验证|检验|证明|说明|理由|原因|为什么|为何|之所以|符合|给出|一致|相符|成立|目标|假[设定如]|如果|既然|由于|确实|的确|果然|[正恰刚]好|"
    r"不等于|不是|并非|不到|不符|不同|矛盾|相差|多于|少于|两倍|一半|倒推|反推|"
    r"怎么|看看|请看|过程|知道|已知|这里的|没错|比",
)
# Up to a first mention, on its left.
_AIM = _any_of(
    r"\b(?:want|like|need|needs|have|has|had|try|trying|are|is|order|supposed|asked|meant|task is)\b[^=+*×÷:,.]{0,25}?"
    r"\bto (?:be|get|reach|obtain|arrive|come|end|make|equal|give|become|derive)\bNEAR",
    r"(?:^|\bso )\W*(?:in order )?to (?:get|obtain|arrive|end|have|earn|match|make|come|see)\bNEAR",
    r"^\W*to \w+(?: \w+)?(?: to)?END",
    r"^\W*for an? \w+ ofEND|^\W*an? \w+ ofEND|\bfor (?:this|it|the \w+|each) to \w+\bNEAR|\bto go from \w+ toEND",
    r"\bhow (?:do|did|can|does|to)?\b[^+*×÷:]{0,40}\Z|^\W*if [^,=+*×÷]{0,40}\Z",
    r"\bknow(?:ing)? (?:that )?(?:the|it)[^=+*×÷:,]{0,30}\Z",
    r"\b(?:has|have|needs?|had) to (?:be|\w+ (?:to|at|in))END",
    r"\b(?:since|because|as|given|if|but|however|knowing)(?: that)? (?:the )?(?:\w+ ){0,2}"
    r"(?:answer|result|solution|total|value|choice|option)"
    r" (?:is|was|being|equals)END|\b(?:answer|result|solution|total|area|value) beingEND",
    r"\b(?:less|more|greater|smaller|larger|higher|lower|fewer|short|off|away|far) (?:than|of|from)(?: the \w+)?END",
    r"\bas (?:much|many|large|big|long) asEND|\b(?:double|twice|half)(?: of)?(?: the \w+)?END",
    r"\bthe (?:correct|real) (?:answer|result|value)(?: of|,)END|\bwork withEND",
    r"(?<!gives )(?<!get )(?<!obtain )\bthe (?:final |correct )?(?:answer|result)(?: of|,)?END",
    r"(?:为了|要|想|需要|希望|必须)(?:使|让)?[^=+×÷,]{0,12}(?:得|达到|等于|凑成|推出|是|为|有)NEAR",
    r"(?:因为|但是?|可是|然而|不过),?(?:我们)?[^=+×÷,]{0,6}(?:答案|结果|选项)[^=+×÷,]{0,4}[是为着]END|(?:是|与|和|跟)答案END",
    r"正确的END",
)
_SHOULD = _any_of(
    r"\bshould (?:be|equal|give|find|get|have|obtain|see|come)\b(?: \w+)?END",
    r"应(?:该|当)?[^=,。]{0,3}(?:是|为|等于|有|长|得到?|回)END",
)
# From a first mention, on its right.
_SO = _any_of(
    r"[)\s$]*, so (?:we|let|there|i|you)\b|\W{0,3}(?:is|are) the (?:correct|right) \w+(?: here)?(?:, so| and| because)",
    r"\W{0,3}(?:is|are|must be) correct\b|\W{0,3}(?:[a-z]+ )?can be \w+ed\b|\W{0,3}(?:[a-z]+ ){0,2}for the following",
    r"[^。\n]{0,4},(?:所以|因此|那么)(?:我们)?(?:只)?(?:需|要|应|必|说明)|[^。\n]{0,8},(?:我们)?(?:可以)?(?:这样|如下|下面)",
)

_SENTENCE = re.compile(r"[.!?](?=\s)|[。;\n]")
_RESULT = re.compile(r"(?:[=≈:→]|\\approx|\\Rightarrow)[\s$\\({*]*\Z")
_CONCLUDING = re.compile(r"\b(?:so|thus|hence|therefore|which)\b|所以|因此|故|[;:]", re.IGNORECASE)
_CONCLUDED = _any_of(
    r"\b(?:so|thus|hence|therefore|altogether|in total|gives?|yields?|makes?|leaves?|get|obtain)\b|所以|因此|得|共"
)
_NUMBERING = re.compile(r"(?:(?:^|\n)[#*\s]*|\b(?:step|part|case|option|第)\s*)\Z", re.IGNORECASE)
_OPERATOR = r"(?:[+\-*/×÷·^]|\\times|\\cdot|\\div|\bplus|\bminus|\btimes)"
_NUMBER = re.compile(r"\d+")
_OPERAND = re.compile(rf"(?:{_OPERATOR}[\s$(]*|\d, ?)\Z")
_OPERAND_AFTER = re.compile(rf"[\s$)]*(?:{_OPERATOR}|x(?= ?\$?\.?\d))")
_CALCULATION = re.compile(rf"\d[\s$)}}]*(?:{_OPERATOR}|=|x)[\s$({{\\]*\w|=\s*-?\\?[\w$]")
_CHECK = re.compile(r"\b(?:check|verif|confirm|test|plug|substitut)|检验|验证|验算|检查|代入", re.IGNORECASE)
_ANSWER_WORD = re.compile(r"answer|result|solution|choice|option|答案|结果|选", re.IGNORECASE)
_JUSTIFIED = re.compile(
    r"\b(?:justify|confirm|asked to|told|stated|explain|prove|why)\b|解释|为什么|要说明", re.IGNORECASE
)


def early_answer(text: str, question: str, answer: str) -> str | None:
    """The words with which a text speaks of the answer before it has arrived at it, or None.

    An answer that also stands in the question may be named early; there only what calls it an answer counts.
    """
    answer = answer.strip()
    if not answer or len(answer) > LONGEST:
        return None
    pattern = _mention(answer)
    working = text[: boxed_place(text)[0] or len(text)]
    asked, arrived = pattern.search(question) is not None, False
    calculation = _CALCULATION.search(text)
    working_starts = calculation.start() if calculation else len(text)
    for mention in pattern.finditer(text):
        left, right = _sentence(text, mention)
        if asked and not (_ANSWER_WORD.search(left + right[:20]) or _JUSTIFIED.search(left)):
            continue
        if _speaks(_TOLD, left.split(":")[-1], right, question):
            return _words(left, mention)
        if arrived or _is_operand(text, mention, left, right):
            continue
        is_result = _RESULT.search(left) is not None
        if is_result and _NUMBER.search(left):
            arrived = True
        elif _claimed(left, right, question):
            return _words(left, mention)
        elif is_result and working_starts < mention.start():
            arrived = True
        elif not asked and len(answer) > 1 and _worked_out_later(working, mention, left):
            return _words(left, mention)
        else:
            arrived = not asked
    return None


def _claimed(left: str, right: str, question: str) -> bool:
    """Whether a first mention that is no result is an aim or a claim; what concludes ("so ...") begins anew."""
    concluding = _CONCLUDED.search(left)
    if not concluding and (_SHOULD.search(left) or _SO.match(right)):
        return True
    return bool(_AIM.search(_open(left)) or _speaks(_EARLY, _open(left), right, question))


def _speaks(words: re.Pattern[str], left: str, right: str, question: str) -> bool:
    """Whether one of the words stands beside a mention, and not in the question as well."""
    found = words.search(left) or words.search(right)
    return found is not None and found[0].lower() not in question.lower()


def _open(left: str) -> str:
    """What stands before a mention, from the last word that concludes."""
    cuts = [cut.end() for cut in _CONCLUDING.finditer(left)]
    return left[cuts[-1] :] if cuts else left


def _is_operand(text: str, mention: re.Match[str], left: str, right: str) -> bool:
    """Whether a mention is a number among others, or that of a step: it says nothing about the answer."""
    if re.fullmatch("[A-Z]", mention[0]):
        return False
    numbering = re.match(r"[.):]", right) and _NUMBERING.search(text, max(0, mention.start() - WINDOW), mention.start())
    among = _OPERAND.search(left) or _OPERAND_AFTER.match(right) or numbering
    return bool(among or (re.match(r"[\s$)]*=", right) and not _AIM.search(left)))


def _worked_out_later(working: str, mention: re.Match[str], left: str) -> bool:
    """Whether calculations follow a first mention; after others, its own sentence's and those of a check may."""
    start = mention.end()
    if not _NUMBER.search(working, 0, mention.start()) and _NUMBER.search(mention[0]) and _ANSWER_WORD.search(left):
        return len(working) - start > len(left)  # the answer, and then some words
    if after_others := len(_NUMBER.findall(working, 0, mention.start())) > 1:
        end = _SENTENCE.search(working, start)
        if end is None or _CONCLUDED.search(left):
            return False
        start = end.end()
    later = _CALCULATION.search(working, start)
    return later is not None and not (after_others and _CHECK.search(working, mention.end(), later.start()))


@lru_cache(maxsize=1024)
def _mention(answer: str) -> re.Pattern[str]:
    """The answer as a whole word, with or without thousands separators."""
    spelled = re.escape(answer)
    if re.fullmatch(r"-?\d{1,3}(?:,?\d{3})+", answer):
        digits = answer.replace(",", "")
        spelled = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", r"(?:,|\\{,\\})?", digits)
    flags = re.RegexFlag(0) if len(answer) == 1 else re.IGNORECASE
    return re.compile(rf"(?<![A-Za-z0-9_.])(?<!\d,){spelled}(?![A-Za-z0-9_]|[.,]\d)", flags)


def _sentence(text: str, mention: re.Match[str]) -> tuple[str, str]:
    """What stands before and behind a mention in its sentence."""
    before, behind = (
        text[max(0, mention.start() - WINDOW) : mention.start()],
        text[mention.end() : mention.end() + WINDOW],
    )
    cuts = [cut.end() for cut in _SENTENCE.finditer(before)]
    end = _SENTENCE.search(behind)
    return before[cuts[-1] :] if cuts else before, behind[: end.start()] if end else behind


def _words(left: str, mention: re.Match[str]) -> str:
    return (left + mention[0]).strip()
