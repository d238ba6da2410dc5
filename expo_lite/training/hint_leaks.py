"""Which explanations betray that their writer was told the answer. Patterns only; imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
    r"(?:given|provided|stated|supplied|known|reference|target|expected|hinted) ANSWER\b(?! (?:choice|option))",
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
)


def _one_pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    """Any of the phrases, as whole words; a blank stands for white space, a NAME in capitals for its part."""
    text = "|".join(phrases)
    for name, part in _PARTS.items():
        text = text.replace(name, part)
    return re.compile(rf"(?<!\w)(?:{text})(?!\w)".replace(" ", r"\s+"), re.IGNORECASE | re.MULTILINE)


_LEAK = _one_pattern(_LEAKS)


def leaked_phrase(text: str) -> str | None:
    """The first phrase of an explanation that betrays that the answer was told, or None.

    It looks for statements about having been given the answer, not for the answer itself: a
    derivation may well end with "so the correct answer is 42".
    """
    match = _LEAK.search(text)
    return match[0] if match else None
