"""What is said to the model: the task prompt and the hinted prompt.

Training always happens under the task (unhinted) prompt; the hinted one only serves to sample
self-explanations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expo_lite.config.examples import Example
from expo_lite.config.settings import PromptConfig
from expo_lite.core.errors import ConfigError, DataError, first_line
from expo_lite.core.records import Problem
from expo_lite.model.plain_chat import TURN_END, plain_chat_of

MEASURED_AT_ONCE = 128
SHOWN_CHATS = 5  # refused ones that a message repeats
DROPPED = "it takes no notice of a system message"

Messages = list[dict[str, str]]
"""What apply_chat_template takes: role and content of each turn."""


class Prompts:
    """Renders problems through the tokenizer's chat template. ConfigError if it has none, or it refuses the prompt.

    The turns before a problem's question stand as they are, a system turn of its own in place of `prompt.system`, and
    solved examples before them.
    DataError names the problems whose turns the template refuses. `vocabulary` is how many tokens the model's embedding
    has: ids beyond it are a ConfigError, too.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, vocabulary: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.vocabulary = vocabulary
        self.ending = turn_end(tokenizer)
        self.plain = plain_chat_of(tokenizer)
        try:
            self._chats([self.messages(Problem("", "?", ""))])
        except (ValueError, TemplateError) as error:  # no template, or one that refuses a system message
            raise ConfigError(
                f"policy.model: its tokenizer's chat template cannot render a prompt: {first_line(error)}\n"
                "Name a chat model (often the one that ends in -Instruct), or save the model in a folder with a "
                "chat_template.jinja; where the template takes no system message, leave prompt.system out."
            ) from None
        if config.system is not None and self._drops_system:
            raise ConfigError(
                "prompt.system: the chat template of policy.model takes no notice of a system message; write it into "
                "prompt.task and prompt.hinted instead"
            )

    def task(self, problem: Problem) -> list[int]:
        """Token ids of the prompt with the answer hidden."""
        with self._naming([problem]):
            return self._chats([self.messages(problem)])[0]

    def hinted(self, problem: Problem) -> list[int]:
        """Token ids of the prompt that tells the answer and asks for an explanation."""
        with self._naming([problem]):
            return self._chats([self.hinted_messages(problem)])[0]

    def lengths(self, problems: Sequence[Problem]) -> Iterator[int]:
        """Tokens of each problem's longer prompt, task or hinted: many at a time, which takes half of the time."""
        for start in range(0, len(problems), MEASURED_AT_ONCE):
            some = problems[start : start + MEASURED_AT_ONCE]
            with self._naming(problems[start:]):
                both = self._chats([ask(p) for ask in (self.messages, self.hinted_messages) for p in some])
            yield from map(max, map(len, both[: len(some)]), map(len, both[len(some) :]))

    def text(self, problem: Problem) -> str:
        """What the user says last in the task prompt."""
        return self._asked(problem, hinted=False)

    def messages(self, problem: Problem) -> Messages:
        """The task prompt as chat messages."""
        return self._messages(problem, hinted=False)

    def hinted_messages(self, problem: Problem) -> Messages:
        """The hinted prompt as chat messages."""
        return self._messages(problem, hinted=True)

    def _messages(self, problem: Problem, hinted: bool) -> Messages:
        if has_system(problem) and self._drops_system:
            raise TemplateError(DROPPED)
        own = has_system(problem)
        system = [] if self.config.system is None or own else [_said("system", self.config.system)]
        turns = [_said(*turn) for turn in problem.turns]
        solved = ((self._asked(example, hinted), example.solution) for example in self.config.examples)
        examples = [_said(*turn) for pair in solved for turn in zip(("user", "assistant"), pair, strict=True)]
        return [*system, *turns[:own], *examples, *turns[own:], _said("user", self._asked(problem, hinted))]

    def _asked(self, problem: Problem | Example, hinted: bool) -> str:
        if hinted:
            return fill(self.config.hinted, question=problem.question, answer=problem.answer)
        return fill(self.config.task, question=problem.question)

    @contextmanager
    def _naming(self, problems: Sequence[Problem]) -> Iterator[None]:
        """Where the template refuses what is rendered inside, a DataError names which of `problems` it refuses."""
        try:
            yield
        except (ValueError, TemplateError):
            raise DataError(self._refusal(problems)) from None

    def _refusal(self, problems: Sequence[Problem]) -> str:
        reasons = [(problem, reason) for problem in problems if (reason := self._reason(problem))]
        lines = [
            f"{problem.where or 'a problem'}: the chat template of policy.model cannot render these turns "
            f"({', '.join([*(turn.role for turn in problem.turns), 'user'])}): {reason}"
            for problem, reason in reasons[:SHOWN_CHATS]
        ]
        more = [f"and {len(reasons) - SHOWN_CHATS} more"] if len(reasons) > SHOWN_CHATS else []
        return "\n".join([*lines, *more, "Correct or leave out such rows, or name a model whose template takes them."])

    def _reason(self, problem: Problem) -> str | None:
        try:
            self._chats([self.messages(problem), self.hinted_messages(problem)])
        except (ValueError, TemplateError) as error:
            return first_line(error)
        return None

    @cached_property
    def _drops_system(self) -> bool:
        """Whether the template leaves out what the system says, without a word (Phi-3-mini's first did)."""
        try:
            one, other = self._chats([[_said("system", said), _said("user", "?")] for said in "12"])
        except (ValueError, TemplateError):  # it says so, which is an error of its own
            return False
        return one == other

    def _chats(self, chats: list[Messages]) -> list[list[int]]:
        """Token ids of several chats, each up to where the model is to answer."""
        found = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, enable_thinking=self.config.enable_thinking
        )["input_ids"]  # type: ignore[index]
        return [self._known(ids) for ids in found]  # type: ignore[union-attr]

    def completion(self, text: str) -> list[int]:
        """Token ids of `text` as a finished answer: it ends as the chat template ends a turn."""
        if self.plain:
            text = f" {text}{TURN_END}"
            return self._known(list(self.tokenizer(text, add_special_tokens=False)["input_ids"]))  # type: ignore[arg-type]
        return self._known([*self.tokenizer(text, add_special_tokens=False)["input_ids"], *self.ending])  # type: ignore[misc]

    def _known(self, ids: list[int]) -> list[int]:
        """The ids, if the model has them all: a token that was added without resizing the embedding it has not."""
        if self.vocabulary is not None and (largest := max(ids)) >= self.vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(largest)
            raise ConfigError(
                f"policy.model: its tokenizer knows {token} as token {largest}, but the model has {self.vocabulary} "
                "tokens only; use the tokenizer that the model came with, or resize the model's embedding and save it"
            )
        return ids


def has_system(problem: Problem) -> bool:
    """Whether the problem brings a system message of its own."""
    return bool(problem.turns) and problem.turns[0].role == "system"


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def turn_end(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids that the chat template puts behind an answer, through the first special one; else the end token.

    Chat models may end a turn with a token of its own (Phi-3.5's <|end|>, Gemma's <end_of_turn>), not with eos_token.
    """
    answer = "42"
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    special = {*tokenizer.all_special_ids, *(n for n, t in tokenizer.added_tokens_decoder.items() if t.special)}
    try:
        rendered = str(tokenizer.apply_chat_template(chat, tokenize=False))
    except (ValueError, TypeError, TemplateError):  # no template, or one that an answer without more does not suit
        rendered = ""
    behind: list[int] = tokenizer(rendered.rpartition(answer)[2], add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
    end = next((place for place, token in enumerate(behind, 1) if token in special), 0)
    return behind[:end] or [tokenizer.eos_token_id]  # type: ignore[list-item]


def end_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a completion; chat models name several, and some only in their chat template."""
    ids = set(turn_end(tokenizer)[-1:])
    generation = model.generation_config
    for value in (tokenizer.eos_token_id, generation.eos_token_id if generation else None):
        ids.update(value if isinstance(value, list) else [] if value is None else [value])  # type: ignore[arg-type]
    return sorted(ids)


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
