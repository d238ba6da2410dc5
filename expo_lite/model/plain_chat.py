"""How a base model, whose tokenizer has no chat template, is asked: questions and answers below each other.

It ends an answer by going on with a next question, so a completion is over where that begins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

STOP = "\nQuestion:"
"""Where it begins, a completion is over."""
TURN_END = f"\n{STOP}"
"""What follows an answer."""
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'Question: ' + m['content'] + '\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ 'Answer: ' + m['content'] + '\n\n' }}"
    "{% else %}{{ m['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)


def give_plain_chat(tokenizer: PreTrainedTokenizerBase) -> None:
    """Where the tokenizer has no chat template it gets this one, with the token that it begins every text with."""
    if tokenizer.chat_template is None:
        begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id  # type: ignore[index]
        tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + TEMPLATE


def plain_chat_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template that the tokenizer was given here; None where it has one of its own."""
    template = str(tokenizer.chat_template)
    return template if template.endswith(TEMPLATE) else None


def has_plain_chat(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether completions end where a next question begins."""
    return plain_chat_of(tokenizer) is not None


def has_stopped(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a next question begins in the text of these tokens."""
    return STOP in str(tokenizer.decode(list(ids), skip_special_tokens=True))


def tokens_to_stop(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> int | None:
    """How many of the tokens it takes until a next question has begun; None where none does."""
    if not has_stopped(ids, tokenizer):
        return None
    return bisect_left(range(1, len(ids) + 1), True, key=lambda count: has_stopped(ids[:count], tokenizer)) + 1
