"""Numbers that are not finite: the base's own fault is told apart from a training that has diverged."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from support.tiny_models import live_units, tiny_base, tiny_config, tiny_trainer

from expo_lite.config.settings import PolicyConfig
from expo_lite.core.errors import ConfigError, DivergedError
from expo_lite.core.records import PreferencePair, TrainingSequence
from expo_lite.model import row_batch
from expo_lite.model.non_finite import base_is_finite
from expo_lite.model.policy import Policy, add_adapter
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.training.dry_pass import seconds_per_trained_token
from scripts.tiny_base.tokenizer import build_tokenizer

IDS = [3, 20, 6, 7, 15]
ROLLOUT = TrainingSequence(IDS, [8, 15, 9, 2], advantage=1.0, policy_weight=0.1)
FLOAT16 = r"policy\.dtype: big/model gives no finite numbers in float16, before any training.*policy\.dtype to float32"


def policy_in(dtype: torch.dtype, growth: float = 1.0) -> Policy:
    """A base whose activations are `growth` times larger after its first block, with an adapter."""
    base = tiny_base()
    base.get_decoder().layers[0].mlp.down_proj.weight.data *= growth
    base.name_or_path = "big/model"
    return add_adapter(base.to(dtype), build_tokenizer(), PolicyConfig(quantization="none", lora_rank=4), 0)


def large() -> Policy:
    """Beyond 65,504, which is finite in every type but float16."""
    policy = policy_in(torch.float16, 5e4)
    assert not base_is_finite(policy, IDS, torch.Tensor.tolist)
    assert base_is_finite(policy_in(torch.bfloat16, 5e4), IDS, torch.Tensor.tolist)
    return policy


def spoiled(dtype: torch.dtype = torch.float32) -> Policy:
    """A sound base under an adapter that is not a number."""
    policy = policy_in(dtype)
    with torch.no_grad():
        policy.trainable[0].fill_(float("nan"))
    return policy


def write(policy: Policy, dense: bool = False) -> object:
    requests = [SampleRequest(IDS, 2, ("s",)), SampleRequest([3], 1, ("t",))]
    return Sampler(policy, live_units(), dense).sample(requests, 4)


class TestSampling:
    def test_a_base_that_float16_cannot_hold(self) -> None:
        with pytest.raises(ConfigError, match=FLOAT16):
            write(large())

    def test_a_base_with_damaged_weights(self) -> None:
        with pytest.raises(ConfigError, match=r"policy\.model: big/model gives no finite numbers in float32"):
            write(policy_in(torch.float32, float("inf")))

    @pytest.mark.parametrize("dense", [False, True])
    def test_training_is_to_blame_where_the_base_is_sound(self, dense: bool) -> None:
        with pytest.raises(DivergedError, match=r"training has diverged.*lower optimizer\.learning_rate"):
            write(spoiled(), dense)

    def test_in_float16_too(self) -> None:
        with pytest.raises(DivergedError, match="training has diverged"):
            write(spoiled(torch.float16))

    def test_what_stands_behind_an_end_does_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A row that has ended is decoded on until enough others have; its numbers are thrown away."""
        policy, real, calls = policy_in(torch.float32), row_batch.choose, [0]
        policy.end_ids = [7]

        def choose(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
            chosen, logprobs = real(*args)
            calls[0] += 1
            if calls[0] == 1:
                chosen[0] = 7
            elif len(chosen) == 5:
                logprobs[0] = float("nan")
            chosen[1:] = 5
            return chosen, logprobs

        monkeypatch.setattr(row_batch, "choose", choose)
        (written,) = Sampler(policy, live_units()).sample([SampleRequest(IDS, 5, ("s",))], 6)
        assert [len(completion.completion_ids) for completion in written] == [1, 6, 6, 6, 6]

    @pytest.mark.parametrize("asked", [True, False])
    def test_training_is_never_to_blame_where_the_adapter_is_off(
        self, asked: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The base is sound row by row, and not where rows are computed together."""
        policy, real = policy_in(torch.float32), row_batch.choose

        def choose(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
            chosen, logprobs = real(*args)
            return chosen, logprobs * float("nan")

        monkeypatch.setattr(row_batch, "choose", choose)
        off = policy.reference() if asked else contextlib.nullcontext()
        with off, pytest.raises(ConfigError, match=r"policy\.dtype: big/model, without any training, .*several rows"):
            Sampler(policy, live_units()).sample([SampleRequest(IDS, 2, ("s",), adapter=asked)], 4)


class TestUpdating:
    def test_a_base_that_float16_cannot_hold_is_said_at_once(self) -> None:
        """And not after the scaler has halved its scale sixteen times, step by step."""
        with pytest.raises(ConfigError, match=FLOAT16):
            tiny_trainer(tiny_config(), large()).updater.update([ROLLOUT])

    def test_as_a_reference(self) -> None:
        with pytest.raises(ConfigError, match=FLOAT16):
            tiny_trainer(tiny_config(kl__coef=0.1), large()).updater.update([ROLLOUT])

    def test_for_preference_pairs(self) -> None:
        pair = PreferencePair(TrainingSequence(IDS, [8, 2]), TrainingSequence(IDS, [9, 2]))
        with pytest.raises(ConfigError, match=FLOAT16):
            tiny_trainer(tiny_config(objective__name="dpo"), large()).updater.update_on_pairs([pair])

    def test_training_is_to_blame_where_the_base_is_sound(self) -> None:
        with pytest.raises(DivergedError, match="training has diverged"):
            tiny_trainer(tiny_config(), spoiled()).updater.update([ROLLOUT])


def test_the_dry_pass_says_it_before_the_first_step() -> None:
    config = tiny_config(rollout__max_prompt_tokens=8)
    with pytest.raises(ConfigError, match=FLOAT16):
        seconds_per_trained_token(config, tiny_trainer(config, large()).updater)
