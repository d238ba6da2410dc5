"""What is said to the model: the task prompt, the hinted prompt, and who betrays the hint.

Training always happens under the task (unhinted) prompt; the hinted one only serves to sample
self-explanations.
"""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

from expo_lite.config import PromptConfig
from expo_lite.types import Problem

_TOLD = r"(?:given|provided|stated|supplied|told|informed|shown|specified)"
_ADJECTIVES = r"(?:(?:correct|final|right|true|exact|expected|numerical)\s+)*"
_ANSWER = rf"{_ADJECTIVES}(?:answer|result|solution)"
_LEAKS = re.compile(
    "|".join(
        (
            # "as we were told", "I was given the answer", "we have been informed that the answer is"
            rf"\b(?:as|like)\s+(?:i|we)?\s*(?:was|were|am|are|have\s+been|had\s+been)?\s*(?:already\s+)?{_TOLD}\b[^.\n]*\b{_ANSWER}",
            rf"\b(?:i|we|you)(?:'ve|'re|\s+(?:was|were|am|are|have|had))?\s+(?:been\s+)?(?:already\s+)?(?:told|given|informed|provided|shown)\b(?:\s+(?:us|me|with|that|of))*\s+(?:the|an)?\s*{_ANSWER}",
            # "the given answer", "the provided correct answer", "the known answer"
            rf"\b(?:given|provided|stated|supplied|known|reference|target|expected|hinted)\s+{_ANSWER}\b",
            # "the answer we were given", "the answer that was provided", "the answer is given as 42"
            rf"\b(?:answer|result|solution)\s+(?:(?:that|which)\s+)?(?:(?:i|we|you)\s+)?(?:is|was|were|are|has\s+been|have\s+been)\s+(?:already\s+)?{_TOLD}\b",
            # "given that the answer is 42", "knowing that the correct answer is"
            rf"\b(?:given|knowing|told|informed)\s+(?:that\s+)?(?:the\s+)?{_ANSWER}\s+(?:is|was|must|equals|should)\b",
            # "we know the answer is 42", "since we already know the result"
            rf"\b(?:i|we)\s+(?:already\s+)?know\s+(?:that\s+)?(?:the\s+)?{_ANSWER}\b",
            # "working backwards from the answer", "according to the hint"
            rf"\bback(?:ward)?s?\s+from\s+(?:the\s+)?{_ANSWER}\b",
            r"\b(?:the|a|this|given)\s+hint\b",
        )
    ),
    re.IGNORECASE,
)


class Prompts:
    """Renders problems through the tokenizer's chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config

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
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]  # type: ignore[index]

    def completion(self, text: str) -> list[int]:
        """Token ids of `text` as a finished answer, with the end token."""
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]  # type: ignore[misc]


def fill(template: str, **values: str) -> str:
    """Put values into {placeholders}; other braces, as in \\boxed{}, stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


def leaked_phrase(text: str) -> str | None:
    """The first phrase of an explanation that betrays that the answer was told, or None.

    It looks for statements about having been given the answer, not for the answer itself: a
    derivation may well end with "so the correct answer is 42".
    """
    match = _LEAKS.search(text)
    return match[0] if match else None


def answer_position(text: str, answer: str) -> float | None:
    """Where `answer` first stands in `text` as a whole word, as a share of its length; None if nowhere.

    Near 0, the explanation starts from the answer instead of arriving at it.
    """
    match = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
    return match.start() / len(text) if match else None
