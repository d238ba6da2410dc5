"""One sampling and one update, watched in three ways: on meta, on a fake card, and on a card's stand-in.

Each returns what it found, in words; nothing where all is well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from expo_lite.config.settings import PolicyConfig
from expo_lite.core.records import TrainingSequence
from expo_lite.model.policy import Policy, load_policy
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.training.micro_batches import collate
from support.card_tensors import card
from support.dispatch import Operators, Read, attention_as_one_operator
from support.fake_card import fake_card, moved
from support.meta_models import causal_lm, policy_of
from support.tiny_models import live_units, tiny_config, tiny_trainer

RANK, HALF = 16, torch.bfloat16
REQUESTS = [SampleRequest([3, 5, 4], 2, ("a",)), SampleRequest([3, 5, 11, 6, 8, 20], 3, ("b",))]
ROLLOUTS = [TrainingSequence([3, 7, 9], [8, 15, 9, 12, 4, 5, 2], 1.0, 0.1), TrainingSequence([3], [8, 2], -1.0, 0.1)]
TOKENS = 6


def on_meta() -> str:
    """Whether anything looks at a value by itself, mixes meta and CPU where meta minds, or computes in float32."""
    policy = policy_of(causal_lm("qwen2", HALF, "meta", num_hidden_layers=1), rank=RANK)
    return found_without_numbers(policy, backward=True)


def on_fake_card() -> str:
    """The same with devices taken seriously; without a backward pass."""
    policy = policy_of(causal_lm("qwen2", HALF, "meta", num_hidden_layers=1), rank=RANK)
    with fake_card():
        return found_without_numbers(moved(policy), backward=False)


def found_without_numbers(policy: Policy, backward: bool) -> str:
    with Operators() as seen, attention_as_one_operator() as attention:
        try:
            Sampler(policy, live_units(), read=Read()).sample(REQUESTS, TOKENS)
            updater = tiny_trainer(tiny_config(), policy).updater
            updater.read = Read()
            if backward:
                updater.update(ROLLOUTS)
            else:
                updater.logprobs(collate(ROLLOUTS, policy.pad_id, policy.device))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    leaks: Any = seen.leaks(HALF, RANK) or [types for types in attention if set(types) != {HALF}]
    return f"waits: {dict(seen.waits)}" if seen.waits else f"not in {HALF}: {leaks}" if leaks else ""


def on_stand_in(folder: Path) -> str:
    """On a 4090 that is not there, with numbers: mixed devices, and more waits than reads."""
    reads = 0

    def read(tensor: torch.Tensor) -> Any:
        nonlocal reads
        reads += 1
        return tensor.tolist()

    config = PolicyConfig(model=str(folder), device="cuda", dtype="bfloat16", quantization="none", lora_rank=RANK)
    with card("4090") as driver:
        try:
            policy = load_policy(config, 0)
            updater = tiny_trainer(tiny_config(), policy).updater
            updater.read = read
            driver.waits.clear()
            Sampler(policy, live_units(), read=read).sample(REQUESTS, TOKENS)
            # without the optimizer's step: torch's C++ groups gradients by device, and sees where they really are
            list(updater.in_micro_batches(ROLLOUTS, updater.accumulate_gradients))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    waits = sum(driver.waits.values())
    return f"{waits} waits for {reads} reads: {dict(driver.waits)}" if waits != reads else ""
