"""What is said to the model, and which explanations betray that they were told the answer."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from expo_lite.config.settings import PromptConfig
from expo_lite.core.errors import ConfigError
from expo_lite.core.records import Problem
from expo_lite.model.prompts import Prompts, answer_position, fill, turn_end
from expo_lite.problems import tiny_world
from expo_lite.training.hint_leaks import leaked_phrase
from scripts.tiny_base.tokenizer import CHAT_TEMPLATE, build_tokenizer

LABELLED = [json.loads(line) for line in (Path(__file__).parents[1] / "data" / "leaks.jsonl").read_text().splitlines()]


def test_leak_filter_precision_and_recall() -> None:
    """On labelled sentences, half of them hard negatives such as "we are told that the train leaves at 5"."""
    caught = [row for row in LABELLED if leaked_phrase(row["text"])]
    right = [row for row in caught if row["leak"]]
    leaks = [row for row in LABELLED if row["leak"]]
    missed = [row["text"] for row in leaks if row not in caught]
    assert len(leaks) >= 60 and len(LABELLED) - len(leaks) >= 60
    assert len(right) / len(caught) >= 0.95, [row["text"] for row in caught if not row["leak"]]
    assert len(right) / len(leaks) >= 0.9, missed


def test_every_planted_leak_is_caught_and_no_own_work() -> None:
    """The tiny world's own texts: all three kinds of leak, both clean styles."""
    rng = random.Random(0)
    leaking = [tiny_world.leaking_explanation((23, 45, 12), rng) for _ in range(50)]
    assert len(set(leaking)) >= 4
    assert all(map(leaked_phrase, leaking))
    assert not leaked_phrase(tiny_world.own_solution((23, 45, 12)))
    assert not leaked_phrase(tiny_world.expert_solution((23, 45, 12)))


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("2+2=4. As GIVEN, the\ncorrect answer is 4.", "As GIVEN, the\ncorrect answer"),
        ("Adding up, we match the given answer.", "given answer"),
        ("forgiven answers", None),
        ("", None),
    ],
)
def test_the_leaking_phrase_is_named(text: str, phrase: str | None) -> None:
    assert leaked_phrase(text) == phrase


def test_leak_filter_takes_linear_time() -> None:
    text = "as given " * 2000 + "the answer, as " * 2000 + "we were told " * 2000
    start = time.perf_counter()
    leaked_phrase(text)
    leaked_phrase("as " + "given " * 20_000)
    leaked_phrase("answer " * 20_000)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{question} {answer}", "Q A"),
        ("\\boxed{} {question}", "\\boxed{} Q"),
        ("{other} {{question}} {1 + 1}", "{other} {Q} {1 + 1}"),
        ("{question}{question}", "QQ"),
    ],
)
def test_fill_leaves_other_braces(template: str, expected: str) -> None:
    assert fill(template, question="Q", answer="A") == expected


def test_values_are_not_expanded_again() -> None:
    r"""Else a question that holds "{answer}" would betray it; \g<0> and \1 mean nothing either."""
    assert fill("{question} = {answer}", question="{answer}", answer="42") == "{answer} = 42"
    assert fill("{question}", question=r"\g<0> \1 \frac{1}{2}") == r"\g<0> \1 \frac{1}{2}"


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("12 is it", "12", 0.0),
        ("3+9=12", "12", 4 / 6),
        ("112 and 123", "12", None),
        ("x12", "12", None),
        (r"so \frac{1}{2}", r"\frac{1}{2}", 3 / 14),
        ("", "12", None),
    ],
)
def test_answer_position(text: str, answer: str, expected: float | None) -> None:
    assert answer_position(text, answer) == expected


PROBLEM = Problem("p", "What is 1+2?", "3")
PLAIN = PromptConfig(task="{question}", hinted="{question} The correct answer is {answer}. Explain why.")


def test_prompts_go_through_the_chat_template() -> None:
    tokenizer = build_tokenizer()
    prompts = Prompts(tokenizer, PLAIN)
    assert tokenizer.decode(prompts.task(PROBLEM)) == "<|user|>What is 1+2?<|assistant|>"
    hinted = "<|user|>What is 1+2? The correct answer is 3. Explain why.<|assistant|>"
    assert tokenizer.decode(prompts.hinted(PROBLEM)) == hinted


def test_system_prompt_comes_first() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'][0] + '=' + m['content'] + '+' }}{% endfor %}"
    text = {}
    for system in (None, "7"):
        config = PromptConfig(system=system, task="{question}", hinted="{question}{answer}")
        prompts = Prompts(tokenizer, config)
        text[system] = [tokenizer.decode(ids) for ids in (prompts.task(PROBLEM), prompts.hinted(PROBLEM))]
    assert [t.count("7") for t in text[None]] == [0, 0]
    assert all(t.startswith("=7+=What is 1+2?") for t in text["7"])  # the tiny world drops letters


# The part of Qwen3's template that has the switch: without thinking, a thought that is empty already comes before
# the answer.
QWEN3 = r"""
{%- for message in messages %}{{- '<|user|>' + message.content }}{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""


def test_thinking_is_off_unless_asked_for() -> None:
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = QWEN3

    def rendered(**asked: bool) -> list[str]:
        prompts = Prompts(tokenizer, PLAIN.model_copy(update=asked))
        return [tokenizer.decode(ids) for ids in (prompts.task(PROBLEM), prompts.hinted(PROBLEM))]

    thinking = rendered(enable_thinking=True)
    assert thinking[0] == "<|user|>What is 1+2?<|assistant|>"
    assert rendered() == rendered(enable_thinking=False) == [p + "<think>\n\n</think>\n\n" for p in thinking]


@pytest.mark.parametrize("asked", [False, True])
def test_a_template_without_the_switch_takes_no_notice(asked: bool) -> None:
    tokenizer = build_tokenizer()
    message = [{"role": "user", "content": "What is 1+2?"}]
    plain = tokenizer.apply_chat_template(message, add_generation_prompt=True)["input_ids"]
    assert Prompts(tokenizer, PLAIN.model_copy(update={"enable_thinking": asked})).task(PROBLEM) == plain


TURN_END = CHAT_TEMPLATE.replace("<|end|>", "\n<|user|>")


def test_a_completion_ends_as_the_template_ends_a_turn() -> None:
    """With another token than the tokenizer's end token, and what stands before it."""
    tokenizer = build_tokenizer()
    assert turn_end(tokenizer) == [tokenizer.eos_token_id]
    tokenizer.chat_template = TURN_END
    ids = Prompts(tokenizer, PLAIN).completion("1+2=3")
    assert tokenizer.decode(ids) == "1+2=3\n<|user|>" and tokenizer.eos_token_id not in ids


@pytest.mark.parametrize(
    "template",
    [
        None,
        CHAT_TEMPLATE.replace("<|end|>", "\n"),  # ends a turn with no token of its own
        "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}",
    ],
)
def test_without_such_a_token_it_is_the_end_token(template: str | None) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    assert turn_end(tokenizer) == [tokenizer.eos_token_id]


def test_no_template_names_the_remedy() -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match=r"^policy\.model: .*cannot render a prompt.*\nName a chat model"):
        Prompts(tokenizer, PLAIN)


def test_tokens_that_the_model_does_not_have() -> None:
    """Added to the tokenizer, and the model not resized: as a token of the template, of a problem, of a solution."""
    tokenizer = build_tokenizer()
    known = len(tokenizer)
    tokenizer.add_tokens(["<think>"])
    prompts = Prompts(tokenizer, PLAIN, known)
    said = rf"^policy\.model: its tokenizer knows <think> as token {known}, but the model has {known} tokens only"
    strange = replace(PROBLEM, question="1<think>2")
    for ask in (
        prompts.task,
        prompts.hinted,
        lambda p: prompts.completion(p.question),
        lambda p: [*prompts.lengths([p])],
    ):
        assert ask(PROBLEM)
        with pytest.raises(ConfigError, match=said):
            ask(strange)
    tokenizer.chat_template = CHAT_TEMPLATE.replace("'<|assistant|>'", "'<|assistant|><think>'")
    with pytest.raises(ConfigError, match=said):
        Prompts(tokenizer, PLAIN, known)


def test_completion_ends_with_the_end_token() -> None:
    tokenizer = build_tokenizer()
    ids = Prompts(tokenizer, PLAIN).completion("1+2=3\n")
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[:-1]) == "1+2=3\n"
