"""What is said to the model: the task prompt, the hinted prompt, and who betrays the hint.

Training always happens under the task (unhinted) prompt; the hinted one only serves to sample
self-explanations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from expo_lite.config import PromptConfig
from expo_lite.errors import ConfigError
from expo_lite.types import Problem

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


class Prompts:
    """Renders problems through the tokenizer's chat template. ConfigError if it has none, or it refuses the prompt."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        try:
            self.task(Problem("", "?", ""))
        except (ValueError, TemplateError) as error:  # no template, or one that refuses a system message
            reason = str(error).splitlines()[0]
            raise ConfigError(f"policy.model: its tokenizer's chat template cannot render a prompt: {reason}") from None

    def task(self, problem: Problem) -> list[int]:
        """Token ids of the prompt with the answer hidden."""
        return self._chat(fill(self.config.task, question=problem.question))

    def hinted(self, problem: Problem) -> list[int]:
        """Token ids of the prompt that tells the answer and asks for an explanation."""
        return self._chat(fill(self.config.hinted, question=problem.question, answer=problem.answer))

    def _chat(self, content: str) -> list[int]:
        messages = [{"role": "user", "content": content}]
        if self.config.system is not None:
            messages.insert(0, {"role": "system", "content": self.config.system})
        return self.tokenizer.apply_chat_template(  # type: ignore[return-value]
            messages, add_generation_prompt=True, enable_thinking=self.config.enable_thinking
        )["input_ids"]  # type: ignore[index]

    def completion(self, text: str) -> list[int]:
        """Token ids of `text` as a finished answer, with the end token."""
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]  # type: ignore[misc]


def near_miss(problem: Problem) -> Problem:
    """The problem with a wrong answer that looks right: ten more where it is a whole number, else one more."""
    answer = problem.answer
    whole = re.fullmatch(r"-?\d+", answer)
    return replace(problem, answer=str(int(answer) + 10) if whole else f"{answer} + 1")


def fill(template: str, **values: str) -> str:
    """Put values into {placeholders}; other braces, as in \\boxed{}, stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


def leaked_phrase(text: str) -> str | None:
    """The first phrase of an explanation that betrays that the answer was told, or None.

    It looks for statements about having been given the answer, not for the answer itself: a
    derivation may well end with "so the correct answer is 42".
    """
    match = _LEAK.search(text)
    return match[0] if match else None


def answer_position(text: str, answer: str) -> float | None:
    """Where `answer` first stands in `text` as a whole word, as a share of its length; None if nowhere.

    Near 0, the explanation starts from the answer instead of arriving at it.
    """
    match = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
    return match.start() / len(text) if match else None
