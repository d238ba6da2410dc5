"""The whole step on tensors without numbers: in half precision, in 4 bit, and without the host ever looking at a value.

On meta, whatever looks at a value by itself raises; what is read through `read` is counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from support.dispatch import Operators, Read, attention_as_one_operator
from support.meta_models import causal_lm, in_4_bit, policy_of
from support.tiny_models import live_units, tiny_config, tiny_trainer

from expo_lite.config.settings import OptimizerConfig
from expo_lite.core.records import PreferencePair, TrainingSequence
from expo_lite.model.policy import Policy
from expo_lite.model.sampler import CHECK_EVERY, Sampler, SampleRequest
from expo_lite.runs.assemble import build_optimizer
from expo_lite.training.updater import Updater

RANK = 16
LARGE = {  # LoRA matrices of 8,192 numbers: large enough for 8-bit averages
    "hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
    "vocab_size": 4096,
}  # fmt: skip
TOKENS = 18
REQUESTS = [
    SampleRequest([3, 5, 4], 2, ("a",)),
    SampleRequest([3, 5, 11, 6, 8, 20, 25, 10, 4], 3, ("b",)),  # beyond gemma3's window of 6
]
ROLLOUTS = [TrainingSequence([3, 7, 9], [8, 15, 9, 12, 4, 5, 2], 1.0, 0.1), TrainingSequence([3], [8, 2], -1.0, 0.1)]
EXPLANATION = TrainingSequence([3, 7], [8, 15, 2], likelihood_weight=0.1)
FAMILIES = ["qwen2", "qwen3", "llama", "gemma3"]
HALVES = [torch.bfloat16, torch.float16]

half = pytest.mark.parametrize("dtype", HALVES, ids=str)
family = pytest.mark.parametrize("family", FAMILIES)


def meta_policy(family: str, dtype: torch.dtype, quantised: bool = True) -> Policy:
    model = causal_lm(family, dtype, "meta", **LARGE)
    return policy_of(in_4_bit(model) if quantised else model, checkpointing=True, rank=RANK)


def meta_updater(policy: Policy, read: Read, optimizer: str, **settings: Any) -> Updater:
    """An updater that steps an optimizer of the configured kind."""
    updater = tiny_trainer(tiny_config(**settings), policy).updater
    config = OptimizerConfig(name=optimizer, warmup_steps=0)  # type: ignore[arg-type]
    updater.optimizer, updater.scheduler = build_optimizer(policy, config, 10)
    updater.read = read
    return updater


@pytest.fixture(autouse=True)
def scaler_that_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's scaler for float16 looks whether gradients are finite, once an update: that is its own wait."""
    monkeypatch.setattr(torch.amp.GradScaler, "_maybe_opt_step", lambda self, optimizer, *_, **__: optimizer.step())


@half
@family
def test_sampling(family: str, dtype: torch.dtype) -> None:
    policy, read = meta_policy(family, dtype), Read()
    with Operators() as seen, attention_as_one_operator() as attention:
        completions = Sampler(policy, live_units(), read=read).sample(REQUESTS, TOKENS)
    assert [len(c.completion_ids) for of_prompt in completions for c in of_prompt] == [TOKENS] * 5
    assert seen.waits == Counter()
    rows, (sound, tokens, logprobs) = read.shapes[:-3], read.shapes[-3:]
    assert rows == [(5,)] * -(-(TOKENS - 1) // CHECK_EVERY)  # who has finished: once in four tokens
    assert (sound, tokens, logprobs) == ((), (5, TOKENS), (5, TOKENS))  # and once at their ends
    # Queries, keys, values and the mask; of prompts none, or a window's as transformers makes it.
    assert {(dtype,) * 4} <= set(attention) <= {(dtype,) * 4, (dtype,) * 3, (*(dtype,) * 3, torch.bool)}
    assert seen.leaks(dtype, RANK) == set()


def test_watching_reads_each_token_once() -> None:
    """The app shows them as they come: there the host has to wait."""
    policy, read, told = meta_policy("qwen2", torch.bfloat16), Read(), []
    with Operators() as seen:
        Sampler(policy, live_units(), read=read).sample(REQUESTS, 3, watch=lambda *token: told.append(token))
    assert seen.waits == Counter()
    # Each token's rows, ids and whether they were done; who has finished; at the end whether all is sound, and all.
    assert read.shapes == [(5, 3), (5,), (5, 3), (5, 3), (), (5, 3), (5, 3)]
    assert len(told) == 3 * 5


@half
@family
def test_two_updates_with_a_kl_penalty(family: str, dtype: torch.dtype) -> None:
    """In 4 bit, checkpointed, with bitsandbytes' 8-bit AdamW."""
    policy, read = meta_policy(family, dtype), Read()
    updater = meta_updater(policy, read, "adamw_8bit", kl__coef=0.1, objective__updates_per_batch=2)
    with Operators() as seen, attention_as_one_operator() as attention:
        metrics = updater.update([*ROLLOUTS, EXPLANATION])
    assert metrics["updates"] == 2
    assert seen.waits == Counter()
    # Log-probabilities of reference and policy, 12 tokens; each update's gradient norm; the metrics.
    assert read.shapes[:-1] == [(12,), (12,), (), ()]
    assert {key[:3] for key in attention} == {(dtype,) * 3}
    assert seen.leaks(dtype, RANK) == set()
    assert {state["state1"].dtype for state in updater.optimizer.state.values()} >= {torch.uint8}


@half
@family
def test_preference_pairs(family: str, dtype: torch.dtype) -> None:
    """Not quantised, with torch's AdamW."""
    policy, read = meta_policy(family, dtype, quantised=False), Read()
    updater = meta_updater(policy, read, "adamw", objective__name="dpo")
    pair = PreferencePair(TrainingSequence([3, 7], [8, 15, 2]), TrainingSequence([3, 7], [9, 2]))
    with Operators() as seen, attention_as_one_operator():
        metrics = updater.update_on_pairs([pair, pair])
    assert metrics["updates"] == 1
    assert seen.waits == Counter()
    assert read.shapes[:-1] == [(10,), (10,), ()]
    assert seen.leaks(dtype, RANK) == set()


def test_a_look_at_a_value_is_an_error_here() -> None:
    """What these tests rest on."""
    with Operators() as seen, pytest.raises(RuntimeError, match="meta"):
        bool(torch.ones(3, device="meta").all())
    assert seen.waits == Counter({"_local_scalar_dense": 1})
