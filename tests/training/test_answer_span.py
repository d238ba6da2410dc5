"""The final answer among a completion's own tokens: by the rule, for any tokens, also where they cross its border."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from expo_lite.problems import tiny_world
from expo_lite.training.answer_span import answer_place, answer_span, spelled, tokens_before, with_answer
from scripts.tiny_base.tokenizer import build_tokenizer

# pairs that are one token, in the spelling of byte-level BPE; "Ã" starts a character of two bytes
MERGES = [("{", "\\"), ("b", "o"), ("x", "e"), ("bo", "xe"), ("4", "2"), ("}", "$"), ("2", "}"), (" ", "5"), ("{", "Ã")]
END = "<end>"


def byte_level_bpe() -> PreTrainedTokenizerFast:
    """Every byte, and `MERGES`; merges may join any neighbours."""
    pairs = [(left.replace(" ", "Ġ"), right.replace(" ", "Ġ")) for left, right in MERGES]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in pairs)]
    bpe = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=pairs))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, clean_up_tokenization_spaces=False)


BPE = byte_level_bpe()


def encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]


def tokens(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    return [str(tokenizer.decode([i])) for i in ids]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} no, \boxed{ 2 }", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{7} and \boxed{8", "7"),  # the last one is still open
        ("6 * 7 = 42\n#### 42\n", "42"),
        ("####5", "5"),
        (r"#### 5 or \boxed{6}", "6"),
        ("42", None),
        (r"\boxed{ }", None),
        ("#### \n", None),
        ("", None),
    ],
)
def test_where_the_answer_stands(text: str, answer: str | None) -> None:
    place = answer_place(text)
    assert (text[slice(*place)] if place else None) == answer


class TestTinyTokenizer:
    tokenizer = build_tokenizer()

    def test_span_is_the_digits(self) -> None:
        text = tiny_world.own_solution((23, 45, 12))
        ids = [*encoded(self.tokenizer, text), *encoded(self.tokenizer, "<|end|>")]
        start, end = answer_span(ids, text, self.tokenizer) or (0, 0)
        assert tokens(self.tokenizer, ids[start:end]) == ["8", "0"]
        assert tokens(self.tokenizer, ids[end:]) == [tiny_world.ANSWER_END, "<|end|>"]

    def test_another_answer_in_its_place(self) -> None:
        text = tiny_world.own_solution((23, 45, 12))
        ids = [*encoded(self.tokenizer, text), *encoded(self.tokenizer, "<|end|>")]
        before, answer_ids = with_answer(ids, text, self.tokenizer, "123") or ([], [])
        assert spelled(before, self.tokenizer) == text[: text.rindex("80}")]
        assert tokens(self.tokenizer, answer_ids) == ["1", "2", "3"]

    def test_none_where_there_is_none_or_it_cannot_be_written(self) -> None:
        text = tiny_world.running_sums((23, 45))[0]
        ids = encoded(self.tokenizer, text)
        assert answer_span(ids, text, self.tokenizer) is None is with_answer(ids, text, self.tokenizer, "1")
        text = tiny_world.own_solution((23, 45))
        ids = encoded(self.tokenizer, text)
        assert with_answer(ids, text, self.tokenizer, "x+1") is None  # it knows no letters, and drops them
        assert answer_span(ids, text + " ", self.tokenizer) is None is with_answer(ids, text + " ", self.tokenizer, "1")


class TestBorders:
    """In `MERGES`, tokens reach across both borders of an answer."""

    def test_left_over_characters_go_before_the_answer(self) -> None:
        text = r"so $\boxed{\pi}$."
        ids = encoded(BPE, text)
        assert "{\\" in tokens(BPE, ids)
        before, answer_ids = with_answer(ids, text, BPE, "42") or ([], [])
        assert spelled(before, BPE) == r"so $\boxed"
        assert tokens(BPE, answer_ids) == ["{", "42"]
        before, answer_ids = with_answer(ids, text, BPE, r"\e") or ([], [])
        assert tokens(BPE, answer_ids) == ["{\\", "e"]

    def test_span_holds_the_tokens_that_cross(self) -> None:
        text = r"\boxed{\pi2}."
        ids = encoded(BPE, text)
        start, end = answer_span(ids, text, BPE) or (0, 0)
        assert tokens(BPE, ids[start:end]) == ["{\\", "p", "i", "2}"]

    def test_a_token_that_ends_within_a_character(self) -> None:
        r"""`{Ã` holds the brace and half of the é after it."""
        text = r"\boxed{é}"
        ids = encoded(BPE, text)
        start, end = answer_span(ids, text, BPE) or (0, 0)
        assert spelled(ids[:start], BPE) == r"\boxed" and end - start == 2
        before, answer_ids = with_answer(ids, text, BPE, "7") or ([], [])
        assert tokens(BPE, answer_ids) == ["{", "7"] and before == ids[:start]

    def test_the_models_own_spelling_is_kept(self) -> None:
        """ "4", "2" one by one, where the tokenizer would write "42"."""
        text = r"\boxed{42}"
        ids = [i for character in text for i in encoded(BPE, character)]
        assert answer_span(ids, text, BPE) == (7, 9)


PIECES = st.lists(
    st.one_of(st.sampled_from(["boxe", "{\\", "42", "2}$", "{é", " 5", "\\boxed{1}", "€", "\n"]), st.text(max_size=4)),
    max_size=5,
).map("".join)


@st.composite
def completions(draw: st.DrawFn) -> tuple[list[int], str]:
    """A text with a box, and token ids that spell it in some way or other."""
    answer = draw(st.text(st.characters(exclude_characters="{}\\", exclude_categories=["Cs"]), min_size=1, max_size=5))
    wrapped = draw(st.sampled_from([answer, rf"\pi {answer}", rf"\frac{{1}}{{{answer}}}"]))
    text = draw(PIECES) + rf"\boxed{{{wrapped}}}" + draw(PIECES)
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=8)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    ids = [i for part in parts for i in encoded(BPE, part)]
    return [*ids, *encoded(BPE, END if draw(st.booleans()) else "")], text


@settings(max_examples=300, deadline=None)
@given(completions(), st.sampled_from(["42", r"\frac{1}{2}", "é", "2}"]))
@example((encoded(BPE, r"a\boxed{\pi}"), r"a\boxed{\pi}"), "42")
def test_by_the_rule_for_any_text_and_any_tokens(completion: tuple[list[int], str], other: str) -> None:
    """Against a plain search through all places."""
    ids, text = completion
    assert spelled(ids, BPE) == text
    place, span, replaced = answer_place(text), answer_span(ids, text, BPE), with_answer(ids, text, BPE, other)
    if place is None:
        assert span is None and replaced is None
        return
    start, end = place
    shown = [spelled(ids[:j], BPE) for j in range(len(ids) + 1)]
    fitting = [j for j, begun in enumerate(shown) if text.startswith(begun) and len(begun) <= start]
    assert tokens_before(ids, text, BPE, start) == max(fitting)
    covering = [j for j, begun in enumerate(shown) if text.startswith(begun) and len(begun) >= end]
    assert span == (max(fitting), min(covering))
    assert replaced is not None
    assert replaced[0] == ids[: max(fitting)]
    assert spelled([*replaced[0], *replaced[1]], BPE) == text[:start] + other
