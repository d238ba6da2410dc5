"""What is refused, left out or switched off while a run is put together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.tiny_models import tiny_base, tiny_config

from expo_lite.config.read import read_request
from expo_lite.config.settings import PolicyConfig, PromptConfig
from expo_lite.core.errors import ConfigError, DataError
from expo_lite.core.records import Turn
from expo_lite.model.policy import add_adapter
from expo_lite.model.prompts import Prompts
from expo_lite.problems import ProblemSet, tiny_world
from expo_lite.runs.assemble import assemble, chat_notes, settle, with_short_prompts, with_short_solutions
from scripts.tiny_base.tokenizer import build_tokenizer

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

SHORT, LONG = tiny_world.problem((10, 20)), tiny_world.problem((10, 20, 30, 40, 50, 60))


def prompts() -> Prompts:
    return Prompts(build_tokenizer(), tiny_config().prompt)


def test_problems_with_long_prompts_are_left_out_and_counted() -> None:
    problems = ProblemSet([SHORT, LONG], [SHORT], [LONG, SHORT, LONG], notes=("before",))
    limit = len(prompts().hinted(SHORT))
    kept = with_short_prompts(problems, prompts(), limit)
    assert (kept.train, kept.validation, kept.test) == ([SHORT], [SHORT], [SHORT])
    assert kept.notes == ("before", f"3 problems with prompts of more than {limit} tokens are left out.")
    assert with_short_prompts(problems, prompts(), 100) == problems


def test_the_hinted_prompt_has_to_fit_too() -> None:
    limit = len(prompts().task(SHORT))
    with pytest.raises(DataError, match=rf"rollout\.max_prompt_tokens: no train problem .* at most {limit} tokens"):
        with_short_prompts(ProblemSet([SHORT], [SHORT], [SHORT]), prompts(), limit)


def test_long_solutions_are_not_trained_on_and_counted() -> None:
    unsolved = replace(SHORT, solution=None)
    problems = ProblemSet([SHORT, LONG, unsolved], [LONG], [LONG], notes=("before",))
    limit = len(prompts().completion(SHORT.solution or ""))
    kept = with_short_solutions(problems, prompts(), limit)
    assert kept.train == [SHORT, replace(LONG, solution=None), unsolved] and kept.test == [LONG]
    assert kept.notes == ("before", f"1 solutions of more than {limit} tokens are not trained on.")
    assert with_short_solutions(problems, prompts(), 100) == problems
    with pytest.raises(DataError, match=rf"rollout\.max_new_tokens: .*at most {limit - 1} tokens"):
        with_short_solutions(problems, prompts(), limit - 1)


def test_what_a_setting_does_not_reach_in_chats_is_said() -> None:
    chat, own = (replace(SHORT, turns=(Turn(role, "?"),)) for role in ("user", "system"))
    problems = ProblemSet([SHORT, chat, own], [own], [SHORT])
    system, told = (
        "2 problems have a system turn of their own",
        "reward.function is told the last turn alone of 3 chats",
    )

    def said(rewarded: bool, of: ProblemSet = problems, **settings: Any) -> list[str]:
        return [note.split(",")[0].split(";")[0] for note in chat_notes(of, tiny_config(**settings), rewarded)]

    assert said(False) == said(True, reward__messages=True) == []
    assert said(True) == [told] and said(True, prompt__system="Be kind.") == [system, told]
    assert said(True, ProblemSet([SHORT], [SHORT], [SHORT]), prompt__system="Be kind.") == []


def test_only_a_run_on_solutions_minds_their_length() -> None:
    short = ["--preset", "tiny", "--rollout.max-new-tokens", "6"]
    with assemble(settle(read_request(short, "test").config)) as parts:
        assert all(problem.solution for problem in parts.problems.train)
    expert = [*short, "--explanation.source", "expert"]
    with pytest.raises(DataError, match=r"rollout\.max_new_tokens: no problem has a solution of at most 6 tokens"):
        assemble(settle(read_request(expert, "test").config))
    with assemble(settle(read_request([*expert, "--rollout.max-new-tokens", "17"], "test").config)) as parts:
        assert {bool(problem.solution) for problem in parts.problems.train} == {True, False}
        assert parts.problems.notes[-1].endswith("solutions of more than 17 tokens are not trained on.")


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no system message here') }}"])
def test_a_chat_template_that_cannot_render(template: str | None) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match=r"policy\.model: its tokenizer's chat template cannot render a prompt: "):
        Prompts(tokenizer, PromptConfig())


def test_a_tokenizer_without_an_end_token() -> None:
    tokenizer = build_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match=r"policy\.model: its tokenizer has no end token"):
        add_adapter(tiny_base(), tokenizer, PolicyConfig(quantization="none"), 0)


def test_dense_weights_are_for_float32() -> None:
    settings = ["--preset", "tiny", "--policy.dtype", "bfloat16", "--rollout.dense-weights", "yes"]
    with pytest.raises(ConfigError, match=r"rollout\.dense_weights: works with policy\.dtype float32 only"):
        assemble(settle(read_request(settings, "test").config))


def test_unsloth_samples_from_its_own_layers() -> None:
    """Before it is imported: dense copies would be made for nothing, and not be used."""
    settings = ["--preset", "tiny", "--policy.backend", "unsloth", "--rollout.dense-weights", "yes"]
    with pytest.raises(ConfigError, match=r"^rollout\.dense_weights: Unsloth samples from its own layers"):
        settle(read_request(settings, "test").config)


def test_dropout_is_off() -> None:
    """Else a training forward would not see the probabilities that were sampled from."""
    base = tiny_base()
    base.config.attention_dropout = 0.5
    for layer in base.model.layers:
        layer.self_attn.attention_dropout = 0.5
    policy = add_adapter(base, build_tokenizer(), PolicyConfig(quantization="none"), 0)
    ids = torch.tensor([[3, 20, 6, 7, 15, 8, 9, 18, 4]])
    assert policy.model.training
    assert torch.equal(policy.hidden_states(ids), policy.hidden_states(ids))


def test_the_digest_tells_other_problems() -> None:
    same, other = ProblemSet([SHORT], [], []), ProblemSet([LONG], [], [])
    assert same.digest() == ProblemSet([SHORT], [], [], notes=("x",)).digest() != other.digest()
