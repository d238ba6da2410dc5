"""The tiny world: its problems, what counts as a complete derivation, and its tokenizer."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_models import tiny_base
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from expo_lite.core.records import Turn
from expo_lite.problems import tiny_world
from expo_lite.problems.procedural import Split, split_of
from scripts.tiny_base.tokenizer import PHRASES, build_tokenizer

OPERANDS = st.lists(st.integers(tiny_world.SMALLEST, tiny_world.LARGEST), min_size=2, max_size=6).map(tuple)
NUMBERS = (23, 45, 12, 67)
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def operands_of(id: str) -> tuple[int, ...]:
    return tuple(map(int, id.removeprefix("tiny/").split("+")))


@pytest.mark.parametrize("level", tiny_world.LEVELS)
def test_splits_are_disjoint_up_to_the_order_of_operands(level: int) -> None:
    sums = {s: {tuple(sorted(operands_of(p.id))) for p in tiny_world.problems(s, level, 300)} for s in SPLITS}
    assert not sums["train"] & sums["validation"]
    assert not sums["train"] & sums["test"]
    assert not sums["validation"] & sums["test"]


@settings(max_examples=30)
@given(OPERANDS)
def test_permutations_share_a_split(operands: tuple[int, ...]) -> None:
    assert {split_of(p) for p in permutations(operands)} == {split_of(operands)}


def test_split_shares() -> None:
    """80 / 10 / 10 %, over 5000 random sums."""
    rng = random.Random(0)
    splits = [split_of(tuple(rng.randint(10, 99) for _ in range(4))) for _ in range(5000)]
    assert [splits.count(s) / 5000 for s in SPLITS] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


@pytest.mark.parametrize("level", tiny_world.LEVELS)
def test_problems_are_different_right_and_repeatable(level: int) -> None:
    problems = tiny_world.problems("train", level, 50)
    assert problems == tiny_world.problems("train", level, 50)
    assert problems != tiny_world.problems("train", level, 50, seed=1)
    assert len({p.question for p in problems}) == 50
    for p in problems:
        numbers = [int(n) for n in re.findall(r"\d+", p.question)]
        assert p.level == level == len(numbers) - 1
        assert p.answer == str(sum(numbers))


@settings(max_examples=50)
@given(OPERANDS, st.randoms(use_true_random=False))
def test_complete_derivations_pass(operands: tuple[int, ...], rng: random.Random) -> None:
    """Both styles, and those that also betray the hint (which is another filter's duty)."""
    question = tiny_world.problem(operands).question
    assert tiny_world.every_step_right(question, tiny_world.own_solution(operands))
    assert tiny_world.every_step_right(question, tiny_world.expert_solution(operands))
    assert tiny_world.every_step_right(question, tiny_world.leaking_explanation(operands, rng))


@settings(max_examples=50)
@given(OPERANDS, st.randoms(use_true_random=False))
def test_skipped_and_careless_steps_fail(operands: tuple[int, ...], rng: random.Random) -> None:
    question = tiny_world.problem(operands).question
    assert not tiny_world.every_step_right(question, tiny_world.skipping_explanation(operands, rng))
    if len(operands) > 3:  # shorter sums are never careless
        assert not tiny_world.every_step_right(question, tiny_world.careless_solution(operands, rng))


@pytest.mark.parametrize(
    "text",
    [
        "23+45=68\n68+12=81\n81+67=148\n\\boxed{148}",  # wrong sum
        "23+45=68\n68+12=80\n\\boxed{80}",  # an operand is not used
        "23+45=68\n68+12=80\n80+67=147\n\\boxed{148}",  # another answer than the derived one
        "23+45=68\n68+12=80\n80+67=147",  # no answer
        "23+45=68\n68+11=79\n79+68=147\n\\boxed{147}",  # invented numbers
        "23+45=68\n68+12=80\n68+67=135\n\\boxed{135}",  # a result used twice
        "\\boxed{147}",
        "",
    ],
)
def test_broken_derivations_fail(text: str) -> None:
    assert not tiny_world.every_step_right("What is 23+45+12+67?", text)


def test_careless_work_is_wrong_and_skipping_arrives_at_the_told_answer() -> None:
    rng = random.Random(0)
    for _ in range(20):
        assert f"{{{sum(NUMBERS)}}}" not in tiny_world.careless_solution(NUMBERS, rng)
        assert f"{{{sum(NUMBERS)}}}" in tiny_world.skipping_explanation(NUMBERS, rng)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """What AutoTokenizer makes of the tokenizer, saved beside a qwen2 model (whose type decides the class)."""
    folder: Path = tmp_path_factory.mktemp("base")
    tiny_base().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def texts() -> list[str]:
    rng, problem = random.Random(0), tiny_world.problem(NUMBERS)
    return [
        problem.question,
        f"{problem.question} The correct answer is {problem.answer}. Explain why.",
        tiny_world.own_solution(NUMBERS),
        tiny_world.expert_solution(NUMBERS),
        tiny_world.careless_solution(NUMBERS, rng),
        tiny_world.skipping_explanation(NUMBERS, rng),
        *sorted({tiny_world.leaking_explanation(NUMBERS, rng) for _ in range(30)}),
        "<|user|>What is 1+2?<|assistant|>1+2=3\n<|end|>",
    ]


@pytest.mark.parametrize("text", texts())
def test_text_survives_the_loaded_tokenizer(loaded: PreTrainedTokenizerBase, text: str) -> None:
    ids = loaded(text, add_special_tokens=False)["input_ids"]
    assert loaded.decode(ids) == text
    assert loaded(loaded.decode(ids), add_special_tokens=False)["input_ids"] == ids
    assert ids == build_tokenizer()(text, add_special_tokens=False)["input_ids"]
    assert loaded.unk_token_id not in ids


def test_phrases_are_single_tokens(loaded: PreTrainedTokenizerBase) -> None:
    for phrase in PHRASES:
        assert len(loaded(phrase, add_special_tokens=False)["input_ids"]) == 1, phrase
    assert len(loaded) <= 32


def test_special_tokens_and_chat_template_survive(loaded: PreTrainedTokenizerBase) -> None:
    assert (loaded.pad_token, loaded.eos_token) == ("<pad>", "<|end|>")
    chat = [{"role": "user", "content": "What is 1+2?"}]
    ids = loaded.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert loaded.decode(ids) == "<|user|>What is 1+2?<|assistant|>"
    assert loaded.decode([*ids, 5, loaded.eos_token_id], skip_special_tokens=True) == "What is 1+2?0"


def test_steps_are_told_only_of_the_worlds_own_questions() -> None:
    right, wrong = tiny_world.own_solution(NUMBERS), tiny_world.own_solution(NUMBERS[:2])
    question = tiny_world.problem(NUMBERS).question
    assert (tiny_world.steps_right(question, right), tiny_world.steps_right(question, wrong)) == (True, False)
    assert tiny_world.steps_right("Tom has 23, 45, 12 and 67 pears. How many?", right) is None


@pytest.mark.parametrize("level", tiny_world.LEVELS)
def test_the_base_reads_its_own_world(level: int) -> None:
    assert not any(tiny_world.outside_of_base(p.question) for p in tiny_world.problems("test", level, 100))


@pytest.mark.parametrize(
    ("question", "inside"),
    [
        ("What is 10+99?", True),
        (" What is 23 + 45 + 67?\n", True),
        ("What is 12+34+56+78+90+11?", True),
        ("What is 12+34+56+78+90+11+22?", False),  # seven numbers
        ("What is 12?", False),
        ("What is 12+7?", False),  # one digit
        ("What is 12+07?", False),
        ("What is 112+34?", False),
        ("What is 12-34?", False),
        ("what is 12+34?", False),
        ("12+34", False),
        ("What is 12+34? Explain.", False),
        ("What is ١2+34?", False),
        ("", False),
    ],
)
def test_what_the_base_does_not_read(question: str, inside: bool) -> None:
    assert tiny_world.outside_of_base(question) == (None if inside else tiny_world.OUTSIDE)


def test_a_note_counts_what_the_base_does_not_read() -> None:
    problems = [tiny_world.problem(operands) for operands in ((12, 34), (12, 7), (112, 34))]
    assert tiny_world.note_on("tiny", problems) == f"{tiny_world.OUTSIDE} 2 of 3 problems are others."
    told = replace(problems[0], turns=(Turn("system", "Be exact."),))
    assert tiny_world.note_on("tiny", [told]) == f"{tiny_world.OUTSIDE} 1 of 1 problems are others."
    assert tiny_world.note_on("tiny", problems[:1]) == tiny_world.note_on("Qwen/Qwen2.5-1.5B-Instruct", problems) == ""
