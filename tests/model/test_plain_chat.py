"""Base models without a chat template: how they are asked, and that a completion ends where a next question begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.small_hub import tokenizer as small_tokenizer
from support.tiny_models import live_units
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from expo_lite.config.settings import PolicyConfig, PromptConfig
from expo_lite.core.records import Completion, Problem, Turn
from expo_lite.model.plain_chat import STOP, TURN_END, give_plain_chat, has_plain_chat, tokens_to_stop
from expo_lite.model.policy import Policy, add_adapter, load_policy
from expo_lite.model.prompts import Prompts
from expo_lite.model.sampler import CHECK_EVERY, Sampler, SampleRequest
from expo_lite.training.answer_span import answer_span

WORDS = ["<end>", "a", "Ċ", "Question", ":", r"\boxed{5}", "ĠQ"]
TOKENS = 64
EXAMPLE = {"question": "1+1?", "solution": r"It is \boxed{2}."}
PROBLEM = Problem("p", "2+3?", "5")


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="a"))
    made.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    found = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<end>")
    give_plain_chat(found)
    return found


@pytest.fixture(scope="module")
def policy(words: PreTrainedTokenizerFast) -> Policy:
    """Random weights over seven tokens: within 64 of them, most rows begin a next question."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        eos_token_id=0,
    )
    base = Qwen2ForCausalLM(config)
    base.lm_head = torch.nn.Linear(16, len(WORDS), bias=True)
    base.lm_head.bias.data[:] = torch.tensor([-4.0, 0, 1, 1, 1, 0, 0])  # the end is rare
    return add_adapter(base, words, PolicyConfig(quantization="none"), 0)


def sampled(policy: Policy, alive: int = 64, **how: object) -> list[Completion]:
    requests = [SampleRequest([1, 2, 1], 24, (0, "a")), SampleRequest([1], 24, (0, "b"))]
    found = Sampler(policy, live_units(alive)).sample(requests, TOKENS, 1.0, **how)  # type: ignore[arg-type]
    return [completion for of_prompt in found for completion in of_prompt]


def test_a_completion_is_cut_where_a_next_question_begins(
    policy: Policy, words: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token for token the completion that would have gone on, as far as the first token that completes the words."""
    ours = sampled(policy)
    monkeypatch.setattr(policy, "stops_at_questions", False)
    stopped = 0
    for cut, whole in zip(ours, sampled(policy), strict=True):
        ids = whole.completion_ids
        texts = [words.decode(ids[: n + 1], skip_special_tokens=True) for n in range(len(ids))]
        place = next((n + 1 for n, text in enumerate(texts) if STOP in text), None)
        if place is None:
            assert cut == whole
            continue
        stopped += 1
        assert cut.finished and cut.completion_ids == ids[:place]
        assert cut.logprobs == pytest.approx(whole.logprobs[:place], abs=1e-5)
        assert cut.text == texts[place - 1].removesuffix(STOP).rstrip()
    assert 5 < stopped < 48


def test_what_is_sampled_does_not_depend_on_what_is_decoded_together(policy: Policy) -> None:
    ids = [[c.completion_ids for c in sampled(policy, alive)] for alive in (64, 5, 1)]
    assert ids[0] == ids[1] == ids[2]


def test_a_row_that_has_stopped_is_not_written_on(policy: Policy) -> None:
    """But for the few tokens until the sampler looks; each token is told of once."""
    seen = 0

    def watch(stream: tuple[object, ...], t: int, token: int) -> None:
        nonlocal seen
        seen += 1

    found = sampled(policy, watch=watch)
    needed = sum(len(c.completion_ids) for c in found)
    assert needed <= seen <= needed + CHECK_EVERY * len(found)
    assert seen < 0.9 * TOKENS * len(found)


def test_greedy_is_transformers_with_its_stop_strings(policy: Policy, words: PreTrainedTokenizerFast) -> None:
    for prompt in ([1], [1, 2, 1], [3, 4, 1], [2, 5], [6, 1, 1, 2]):
        ((ours,),) = Sampler(policy, live_units(4)).sample([SampleRequest(prompt, 1, (0,))], TOKENS, greedy=True)
        with policy.generating():
            theirs = policy.causal_lm.generate(
                torch.tensor([prompt]), do_sample=False, max_new_tokens=TOKENS, stop_strings=[STOP], tokenizer=words
            )
        assert ours.completion_ids == theirs[0, len(prompt) :].tolist()


def test_the_final_answer_is_found_in_front_of_the_next_question(words: PreTrainedTokenizerFast) -> None:
    ids = [1, 5, 2, 2, 3, 4]
    assert tokens_to_stop([*ids, 1, 2, 3, 4], words) == len(ids)
    assert tokens_to_stop(ids[:-1], words) is None
    assert answer_span(ids, r"a\boxed{5}", words) == (1, 2)
    assert answer_span(ids, r"b\boxed{5}", words) is None


def test_how_it_is_asked() -> None:
    """The words that a reader would write; Qwen2's tokenizer puts no token in front of a text."""
    letters = small_tokenizer()
    letters.chat_template = None  # type: ignore[assignment]
    give_plain_chat(letters)
    config = PromptConfig.model_validate(
        {"task": "{question}", "hinted": "{question} It is {answer}. Why?", "system": "Add.", "examples": [EXAMPLE]}
    )
    prompts = Prompts(letters, config)
    before, asked = "Add.\n\nQuestion: 1+1?{told}\nAnswer: It is \\boxed{{2}}.\n\n", "Question: 2+3?{told}\nAnswer:"
    assert letters.decode(prompts.task(PROBLEM)) == (before + asked).format(told="")
    hinted = before.format(told=" It is 2. Why?") + asked.format(told=" It is 5. Why?")
    assert letters.decode(prompts.hinted(PROBLEM)) == hinted
    chat = replace(PROBLEM, turns=(Turn("user", "0?"), Turn("assistant", "0.")))
    no_examples = Prompts(letters, PromptConfig(task="{question}"))
    assert letters.decode(no_examples.task(chat)) == "Question: 0?\nAnswer: 0.\n\nQuestion: 2+3?\nAnswer:"
    assert letters.decode(prompts.completion("5.")) == f" 5.{TURN_END}"


def test_a_tokenizer_that_begins_each_text_with_a_token_does_so_here_too(words: PreTrainedTokenizerFast) -> None:
    from tokenizers.processors import TemplateProcessing

    made = Tokenizer.from_str(words.backend_tokenizer.to_str())
    made.post_processor = TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 0)])  # type: ignore[assignment]
    begun = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<end>", eos_token="<end>")
    give_plain_chat(begun)
    chat = [{"role": "user", "content": "a"}]
    assert begun.apply_chat_template(chat, tokenize=False).startswith("<end>Question: a")  # type: ignore[union-attr]
    assert has_plain_chat(begun)


def test_a_saved_model_without_a_chat_template_is_loaded_so(policy: Policy, tmp_path: Path) -> None:
    letters = small_tokenizer()
    letters.chat_template = None  # type: ignore[assignment]
    values = policy.causal_lm.config.to_dict() | {"vocab_size": len(letters), "eos_token_id": None}
    Qwen2ForCausalLM(Qwen2Config(**values)).save_pretrained(tmp_path)
    letters.save_pretrained(tmp_path)
    loaded = load_policy(PolicyConfig(model=str(tmp_path), quantization="none", device="cpu"), 0)
    assert loaded.stops_at_questions
    assert loaded.end_ids == [letters.eos_token_id]  # not the colon
