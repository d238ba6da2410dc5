"""Where the final answer of a completion stands among its token ids, and putting another answer there.

Tokens are never taken from encoding the text again: a model may spell a text in other tokens than its tokenizer would,
and a token may reach across the border (`{\\` in `\\boxed{\\frac{1}{2}}`). Only decoding the ids themselves is trusted.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from expo_lite.core.boxes import boxed_place

HASHES = "####"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def answer_place(text: str) -> tuple[int, int] | None:
    r"""Where the final answer starts and ends in a text, without white space around it; None if it has none.

    The last balanced box, as for the verifier; without a box the line after the last `####`, as in GSM8K's solutions.
    """
    start, end = boxed_place(text)
    if not start and HASHES in text:
        start = text.rindex(HASHES) + len(HASHES)
        line_end = text.find("\n", start)
        end = len(text) if line_end < 0 else line_end
    content = text[start:end]
    start += len(content) - len(content.lstrip())
    end = start + len(content.strip())
    return (start, end) if start < end else None


def answer_span(ids: Sequence[int], text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int] | None:
    """Positions (start, end) of the tokens in `ids` that hold a character of the final answer; `end` is exclusive.

    None without a final answer, or where `text` is not how the text of `ids` begins (special tokens left out, as by the
    sampler, which also leaves out a next question).
    """
    place = answer_place(text)
    if place is None or not spelled(ids, tokenizer).startswith(text):
        return None
    start, end = place
    return tokens_before(ids, text, tokenizer, start), min(len(ids), _tokens_within(ids, tokenizer, end - 1) + 1)


def with_answer(
    ids: Sequence[int], text: str, tokenizer: PreTrainedTokenizerBase, answer: str
) -> tuple[list[int], list[int]] | None:
    """Two lists of token ids: `ids` up to the final answer, and `answer` in its place.

    Characters between those ids and the answer's place are written before the answer. None where `answer_span` has
    none, or where the tokenizer cannot write it there.
    """
    place = answer_place(text)
    if place is None or not spelled(ids, tokenizer).startswith(text):
        return None
    before = list(ids[: tokens_before(ids, text, tokenizer, place[0])])
    left_over = text[len(spelled(before, tokenizer)) : place[0]]
    answer_ids = list(tokenizer(left_over + answer, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
    written = spelled(before + answer_ids, tokenizer)
    return (before, answer_ids) if answer and written == text[: place[0]] + answer else None


def tokens_before(ids: Sequence[int], text: str, tokenizer: PreTrainedTokenizerBase, place: int) -> int:
    """The largest j such that the first j ids spell a beginning of `text` of at most `place` characters."""
    j = _tokens_within(ids, tokenizer, place)
    while not text[:place].startswith(spelled(ids[:j], tokenizer)):  # the last character is not complete yet
        j -= 1
    return j


def _tokens_within(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, length: int) -> int:
    """The largest j such that the first j ids spell at most `length` characters, not counting an incomplete last one.

    Complete characters can only become more with more ids, so a binary search finds it.
    """
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high + 1) // 2
        if len(spelled(ids[:middle], tokenizer).rstrip(REPLACEMENT)) <= length:
            low = middle
        else:
            high = middle - 1
    return low


def spelled(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of `ids` as the sampler decodes it, without special tokens."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))
