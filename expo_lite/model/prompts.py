"""What is said to the model: the task prompt and the hinted prompt.

Training always happens under the task (unhinted) prompt; the hinted one only serves to sample
self-explanations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from expo_lite.config.settings import PromptConfig
from expo_lite.core.errors import ConfigError
from expo_lite.core.records import Problem

MEASURED_AT_ONCE = 128


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
        return self._chat(self.messages(problem))

    def hinted(self, problem: Problem) -> list[int]:
        """Token ids of the prompt that tells the answer and asks for an explanation."""
        return self._chat(self.hinted_messages(problem))

    def lengths(self, problems: Sequence[Problem]) -> Iterator[int]:
        """Tokens of each problem's longer prompt, task or hinted: many at a time, which takes half of the time."""
        for start in range(0, len(problems), MEASURED_AT_ONCE):
            some = problems[start : start + MEASURED_AT_ONCE]
            both = self._chat([ask(p) for ask in (self.messages, self.hinted_messages) for p in some])
            yield from map(max, map(len, both[: len(some)]), map(len, both[len(some) :]))

    def text(self, problem: Problem) -> str:
        """What the user says in the task prompt."""
        return fill(self.config.task, question=problem.question)

    def messages(self, problem: Problem) -> list[dict[str, str]]:
        """The task prompt as chat messages."""
        return self._messages(self.text(problem))

    def hinted_messages(self, problem: Problem) -> list[dict[str, str]]:
        """The hinted prompt as chat messages."""
        return self._messages(fill(self.config.hinted, question=problem.question, answer=problem.answer))

    def _messages(self, content: str) -> list[dict[str, str]]:
        system = [] if self.config.system is None else [{"role": "system", "content": self.config.system}]
        return [*system, {"role": "user", "content": content}]

    def _chat(self, messages: Any) -> Any:
        """Token ids of a chat, or of each of several."""
        return self.tokenizer.apply_chat_template(
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


def answer_position(text: str, answer: str) -> float | None:
    """Where `answer` first stands in `text` as a whole word, as a share of its length; None if nowhere.

    Near 0, the explanation starts from the answer instead of arriving at it.
    """
    match = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
    return match.start() / len(text) if match else None
