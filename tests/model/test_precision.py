"""Steps in 16 bit: sampling and training work, and float16 does not lose small gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.tiny_models import GradientRecorder, live_units, tiny_base, tiny_config, tiny_trainer
from torch import Tensor

from expo_lite.config.settings import PolicyConfig
from expo_lite.core.errors import DivergedError
from expo_lite.core.records import TrainingSequence
from expo_lite.model.policy import Policy, add_adapter
from expo_lite.model.sampler import Sampler, SampleRequest
from scripts.tiny_base.tokenizer import build_tokenizer

IDS = [3, 20, 6, 7, 15, 8, 9, 18, 4]
# What a token of 1024 in one of 128 rollouts weighs: its gradients are below what float16 can hold.
SMALL = 1 / (128 * 1024)


def policy_in(dtype: torch.dtype) -> Policy:
    """The same model and adapter, computing in `dtype`."""
    base = tiny_base()
    base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().clone() / 10)
    base.get_input_embeddings().weight.data *= 50  # a large residual stream, as grown models have it
    policy = add_adapter(base.to(dtype), build_tokenizer(), PolicyConfig(quantization="none", lora_rank=4), 0)
    torch.manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return policy


def update(policy: Policy, weight: float) -> tuple[Tensor, dict[str, float]]:
    """The gradient that the optimizer sees for one rollout of that weight a token, and the metrics."""
    recorder = GradientRecorder(policy)
    trainer = tiny_trainer(tiny_config(), policy, optimizer=recorder)
    rollout = TrainingSequence(IDS, [8, 15, 9, 16, 10, 2], advantage=1.0, policy_weight=weight)
    metrics = trainer.updater.update([rollout])
    return recorder.gradients[-1], metrics


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_weights_keep_their_gradient(dtype: torch.dtype) -> None:
    exact, _ = update(policy_in(torch.float32), SMALL)
    rounded, _ = update(policy_in(dtype), SMALL)
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.98
    assert float(rounded.norm()) == pytest.approx(float(exact.norm()), rel=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sampling_in_16_bit(dtype: torch.dtype) -> None:
    policy = policy_in(dtype)
    assert all(parameter.dtype == torch.float32 for parameter in policy.trainable)
    ((first, second),) = Sampler(policy, live_units()).sample([SampleRequest(IDS, 2, ("s",))], 8, 0.7)
    assert len(first.completion_ids) > 0 and len(second.completion_ids) > 0


def test_a_scale_that_is_too_large_leaves_the_update_out() -> None:
    """And is halved, until it fits; the adapter stays finite."""
    policy = policy_in(torch.float16)
    recorder = GradientRecorder(policy, learning_rate=0.1)
    updater = tiny_trainer(tiny_config(), policy, optimizer=recorder).updater
    rollout = TrainingSequence(IDS, [8, 15, 2], advantage=1.0, policy_weight=0.3)
    updater.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    metrics = updater.update([rollout])
    assert metrics["updates"] == 0
    assert recorder.gradients == [] and updater.scaler.get_scale() == 2.0**39
    assert all(parameter.isfinite().all() for parameter in policy.trainable)


def test_in_float32_a_gradient_that_is_not_finite_is_divergence() -> None:
    policy = policy_in(torch.float32)
    updater = tiny_trainer(tiny_config(), policy).updater
    wild: Any = TrainingSequence(IDS, [8, 2], advantage=float("inf"), policy_weight=1.0)
    with pytest.raises(DivergedError, match=r"lower optimizer\.learning_rate"):
        updater.update([wild])
