"""Which explanations betray that their writer was told the answer. Patterns only; imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from expo_lite.core.records import Problem
from expo_lite.training.early_answers import early_answer

_PARTS = {
    "ANSWER": r"(?:the )?(?:(?:correct|final|right|true|exact|expected|numerical) )*answer",
    "TOLD": r"(?:given|provided|stated|supplied|told|informed|specified|mentioned|indicated|hinted)",
    "SAYS": r"(?:tells?|told|says?|said|states?|stated|gives?|gave|given|mentions?|mentioned|provides?|provided)",
    "WERE": r"(?:am|are|is|was|were|has been|have been|had been)",
    "TASK": r"(?:problem|question|prompt|statement|task|exercise|instructions?|user)",
    "VALUE": r"(?:\$|\\boxed\{|\\|-)?\d\w*",
}
_LEAKS = (
    # "as given, the answer is", "as we were told, the final answer", "as you mentioned, the answer"
    r"as (?:(?:i|we|you|it) )?(?:WERE )?(?:already )?TOLD[^.,:\n]{0,60}[,:]? (?:ANSWER|the result)",
    # "as the problem tells us, the answer", "the prompt says that the answer is", "the statement gives the answer as"
    r"as the TASK (?:already )?SAYS[^.,:\n]{0,60}[,:]? ANSWER",
    r"TASK (?:already )?SAYS (?:(?:us|me) )?(?:that )?ANSWER (?:is|was|as|of|equals)",
    # "we were told that the answer", "I have been given the final answer", "you gave the answer"
    r"(?:i|we)(?: WERE|'re|'ve been|'m) (?:already )?(?:told|given|informed|provided|supplied)"
    r"(?: (?:us|me|with|that|of)){0,3} (?:ANSWER|the result)",
    r"as (?:you (?:have )?SAYS|we (?:already )?know)[,:]? ANSWER",
    r"you(?: have|'ve)? (?:already )?SAYS (?:(?:us|me) )?(?:that )?ANSWER",
    # "the given answer", "the provided solution", "the known correct answer"
    r"(?:given|provided|stated|supplied|known|reference|target|expected|hinted|designated|listed|official|intended|"
    r"prescribed|claimed) ANSWER\b(?! (?:choice|option))",
    r"(?:(?:provided|stated|supplied|reference|hinted) (?:result|solution)|given result)",
    r"according to the given solution",
    # "the answer we were given", "the answer that was given to us", "the answer is given as"; not "given by a formula"
    r"(?:answer|result|solution) (?:(?:that|which) )?(?:i|we|you) WERE (?:already )?TOLD",
    r"answer (?:(?:that|which) )?(?:WERE )?(?:already )?TOLD\b(?! (?:by|in|with|that|to (?!us|me)))",
    r"answer (?:that )?you (?:have )?SAYS",
    # "given that the answer is", "given the answer 45", "knowing the answer", "it is known that the answer"
    r"(?:given|knowing|(?:i|we) (?:already )?know|known)(?: that)? ANSWER\b"
    r"(?! (?:to|from|has|must|can|will|choices?|options?))",
    r"it (?:was|is|has been) (?:already )?TOLD that ANSWER",
    r"answer is (?:stated|said|given|told|supposed) to be",
    r"answer is (?:already )?known\b(?! to be (?:an|a|even|odd|positive|negative)\b)",
    # "since the answer should be 40", "we are supposed to get 84", "we need to reach the answer 77"
    r"(?:since|because|why) ANSWER (?:is|must be|should be|has to be|equals) VALUE",
    r"supposed to (?:be|get|equal|reach|obtain|arrive at|come out (?:as|at)) VALUE",
    r"(?:need to|want to|order to|^to|(?<=\.\s)to) (?:get|reach|obtain|match|arrive at) ANSWER (?:of )?VALUE",
    # "the answer is 9, as given", "this is what we were told", "working backwards from the answer", "the hint"
    r"answer\b[^.\n]{0,60}, as (?:(?:i|we|you) )?(?:WERE )?(?:TOLD|the TASK SAYS)",
    r"(?:is|was|matches|with) what (?:i|we) WERE (?:told|given)",
    r"backwards? from (?:the )?(?:\w+ )?(?:answer|result|solution)",
    r"(?:the|a|this|given) (?:hint|prompt|answer key)",
    # "this agrees with the correct answer", "verifying the expected result", "as the answer says"
    r"(?:match(?:es)?|agrees? with|consistent with|confirms?|verif(?:y|ies|ying)|corresponds? to|is) "
    r"the (?:correct|right|actual|true) (?:answer|solution|result|total)\b"
    r"(?! (?:is|of|to|for))",
    r"(?:as|like) (?:the )?(?:answer|solution|result|key) (?:says|states|indicates|claims|suggests|requires)",
    r"(?:as )?(?:required|indicated|suggested|demanded|implied|stated) (?:by|in) the answer",
    r"(?:i|we) (?:already )?have the answer\b(?! (?:to|of|for|by))",
    r"(?:answer|result|value|total) (?:that )?we (?:wanted|expected|hoped for|were aiming for)",
    r"(?:answer|result|value|total) (?:that )?(?:i|we) (?:was|were|are|am) (?:asked|supposed|told|required|meant) to",
    r"marked as (?:the )?(?:correct|right)",
    # "so the answer is indeed 52", "exactly as given", "the answer says", "in line with the solution in the question"
    r"ANSWER is indeed",
    r"what (?:was|were|is) (?:stated|claimed|told|said)",
    r"answer (?:that )?(?:we|i) (?:started|began) (?:with|from)",
    r"(?:coincides?|corresponds?|agrees?|accords?|fits|consistent|in line) (?:with|to)? ?the "
    r"(?:known|given|stated|expected|correct|provided) (?:answer|result|value|solution)",
    r"explains? why ANSWER",
    r"ANSWER (?:that was |which was )?(?:provided|stated|given) (?:in|by) the (?:TASK|solution)",
    r"answer (?:that )?(?:we|i) (?:had|have|were|are|was|am) (?:asked |supposed |expected |meant )?"
    r"to (?:reach|get|explain|show|justify)",
    r"(?:in agreement|agrees|consistent) with what (?:we|i) WERE (?:given|told)",
    r"(?:is|was) the answer that WERE TOLD",
    r"(?:has|have) been (?:named|given|specified|designated|marked) as (?:the )?(?:correct )?answer",
    r"how the answer (?:was|is|can be) (?:found|obtained|reached|explained)",
    r"answer key",
    r"(?:exactly|just|precisely) as (?:TOLD|claimed)\b(?! (?:by|in))",
    r"the (?:correct )?answer (?:says|states|tells us|suggests|indicates)",
    r"(?:same as|in line with|matches|agrees with|consistent with) the (?:answer|solution)\b"
    r"(?! (?:(?:that )?(?:we|i)\b|above|from (?:above|before)|choice|option|to|of))",
    r"TASK (?:already )?(?:names|reveals|gives|shows|provides)[^.\n]{0,30} as the answer",
)
_LEAKS_IN_CHINESE = (
    r"(?:已知|给定的?|所给的?|给出的|提供的|标准|参考|预期的?|期望的?)(?:正确|最终)?(?:答案|结果|选项)",
    r"(?:题目|题干|题中|问题|提示|用户|你|您)(?:中|里|已经|已|所)*(?:给出?|告诉|提供|指出|说)(?:了|我们|我|的)*(?:正确|最终)?答案",
    r"(?:根据|按照|依据|参照|对照|参考)(?:所给的?|给定的?)?(?:提示|答案)",
    r"(?:告诉|告知|得知)(?:了|我们|我)*(?:正确|最终)?(?:的)?(?:答案|结果)",
    r"答案[^。,\n]{0,20},?[^。,\n]{0,8}(?:已经?)?(?:告诉了?我们|给出了)",
    r"从(?:正确|最终)?(?:答案|结果)(?:倒推|反推|出发|逆推)",
    r"(?:我们|我)(?:已经?)?知道(?:正确|最终)?答案",
    r"(?:既然|因为|由于)(?:正确|最终)?(?:答案|选项)(?:是|为)",
    r"(?:但是?|可是|然而|不过)(?:正确|最终)?答案(?:是|为|应)",
    r"(?:与|和|跟)[^。,\n]{0,8}答案[^。,\n]{0,20}(?:一致|相符|不符|符合|吻合|相同|不同|矛盾)",
    r"(?:符合|等于|满足|不符合)(?:正确|最终)?答案",
    r"正如(?:正确|最终)?答案",
    r"为什么(?:正确|最终)?(?:答案|选)",
    r"(?:与|和|跟|据)(?:所给|给定)?的?提示",
    r"(?:想要|期望|要求|预期)的(?:答案|结果)",
    r"答案明明",
    r"(?:已经?)告诉(?:了|我们)+",
    r"被指定|被告知|之所以(?:是|为)(?:正确)?答案",
    r"答案(?:已知|给的|给出的|告诉)",
    r"(?:题中|题目)的?(?:结论|答案|结果)",
)


_BLANK = r"(?:[^\S\n]+|\n(?-i:(?![A-Z])))"  # a new line that starts with a capital is a new sentence


def _one_pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    """Any of the phrases, as whole words; a blank stands for white space, a NAME in capitals for its part."""
    text = "|".join(phrases)
    for name, part in _PARTS.items():
        text = text.replace(name, part)
    return re.compile(rf"(?<!\w)(?:{text})(?!\w)".replace(" ", _BLANK), re.IGNORECASE | re.MULTILINE)


_LEAK = _one_pattern(_LEAKS)
_NARROW = str.maketrans(
    {"\uff0c": ",", "\uff1a": ":", "\uff08": "(", "\uff09": ")", **dict.fromkeys("\uff1b\uff1f\uff01", "。")}
)
_LEAK_IN_CHINESE = re.compile("|".join(_LEAKS_IN_CHINESE))


def leaked_phrase(text: str, problem: Problem | None = None) -> str | None:
    """The first phrase of an explanation that betrays that the answer was told, or None.

    It looks for statements about having been given the answer. With the problem it also looks where the answer is
    first spoken of; a derivation may well end with "so the correct answer is 42".
    """
    text = text.translate(_NARROW)
    match = _LEAK.search(text) or _LEAK_IN_CHINESE.search(text)
    if match:
        return match[0]
    return early_answer(text, problem.asked, problem.answer) if problem else None
