"""Sampling, the training forward and AdamW with every tensor on "cuda:0": one made on another device is an error."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from support.dispatch import Operators, Read, attention_as_one_operator
from support.fake_card import CARD, fake_card, moved
from support.meta_models import causal_lm, policy_of
from support.tiny_models import live_units, tiny_config, tiny_trainer

from expo_lite.core.progress import silent
from expo_lite.core.records import TrainingSequence
from expo_lite.model.policy import Policy
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.training.micro_batches import collate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for CUDA's device guard is for Linux")

REQUESTS = [SampleRequest([3, 5, 4], 2, ("a",)), SampleRequest([3, 5, 11, 6, 8, 20, 25, 10, 4], 3, ("b",))]
ROLLOUTS = [TrainingSequence([3, 7, 9], [8, 15, 9, 12, 4, 5, 2], 1.0, 0.1), TrainingSequence([3], [8, 2], -1.0, 0.1)]


@pytest.fixture(params=["qwen2", "qwen3", "llama", "gemma3"])
def policy(request: pytest.FixtureRequest) -> Iterator[Policy]:
    on_meta = policy_of(causal_lm(request.param, torch.bfloat16, "meta"), checkpointing=True)
    with fake_card():
        yield moved(on_meta)


def test_sampling(policy: Policy) -> None:
    read = Read()
    with Operators() as seen, attention_as_one_operator():
        completions = Sampler(policy, live_units(), read=read).sample(REQUESTS, 10)
    assert [len(c.completion_ids) for of_prompt in completions for c in of_prompt] == [10] * 5
    assert seen.waits == Counter()


def test_training_forward_and_optimizer(policy: Policy) -> None:
    optimizer = torch.optim.AdamW(policy.trainable, lr=1e-3)
    updater = tiny_trainer(tiny_config(kl__coef=0.1), policy, optimizer=optimizer).updater
    updater.read = Read()
    with Operators() as seen, attention_as_one_operator():
        rows = updater.with_logprobs(ROLLOUTS, "reference_logprobs", silent)
        batch = collate(rows, policy.pad_id, policy.device)
        loss = updater.loss(batch, updater.logprobs(batch)[0])
        for parameter in policy.trainable:
            parameter.grad = torch.zeros_like(parameter)
        updater.apply_gradients(rows)
    assert loss.device == CARD and loss.requires_grad
    assert {state["exp_avg"].device for state in optimizer.state.values()} == {CARD}
    assert seen.waits == Counter()


def test_mixing_devices_is_an_error_here() -> None:
    """What these tests rest on."""
    with fake_card(), pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, device=CARD) + torch.ones(3)
