"""Dense copies for sampling: the same numbers as the 4-bit layers, and no trace left behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft.tuners.lora import LoraLayer
from support.tiny_models import ARCHITECTURES, nf4_policy, save_base, tiny_config
from torch import Tensor

from expo_lite.config.read import read_request
from expo_lite.memory.budget import workload_of
from expo_lite.memory.shapes import KNOWN
from expo_lite.model.base import quantised_linears
from expo_lite.model.merged_copies import dense_linears
from expo_lite.model.policy import Policy
from expo_lite.runs.assemble import assemble, settle

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

IDS = torch.tensor([[3, 7, 9, 12, 4, 8, 20, 2], [3, 11, 5, 4, 9, 2, 6, 1]])


@pytest.fixture(scope="module", params=ARCHITECTURES)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return nf4_policy(save_base(tmp_path_factory.mktemp(request.param) / "base", request.param))


@torch.no_grad()
def logits(policy: Policy) -> Tensor:
    return policy.causal_lm(IDS).logits


def linears(policy: Policy) -> list[LoraLayer]:
    return [module for module in policy.model.modules() if isinstance(module, LoraLayer)]


def test_the_policys_logits(policy: Policy) -> None:
    before = logits(policy)
    with dense_linears(policy.model):
        assert not quantised_linears(policy.model)  # all of them are replaced
        torch.testing.assert_close(logits(policy), before, atol=1e-4, rtol=0)
    assert torch.equal(logits(policy), before)


def test_the_references_logits(policy: Policy) -> None:
    with policy.reference():
        before = logits(policy)
        with dense_linears(policy.model):
            torch.testing.assert_close(logits(policy), before, atol=1e-4, rtol=0)
    assert (logits(policy) - before).abs().max() > 0.01  # the adapter matters


def test_an_updated_adapter_is_merged_anew(policy: Policy) -> None:
    with dense_linears(policy.model):
        before = logits(policy)
    with torch.no_grad():
        policy.trainable[1].mul_(2)
    with dense_linears(policy.model):
        after = logits(policy)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, logits(policy), atol=1e-4, rtol=0)


@pytest.mark.parametrize("failing", [False, True])
def test_everything_is_back_afterwards(policy: Policy, failing: bool) -> None:
    layers, weights = linears(policy), [p.detach().clone() for p in policy.model.parameters()]
    state = {name: value.clone() for name, value in policy.model.state_dict().items() if isinstance(value, Tensor)}
    try:
        with dense_linears(policy.model):
            logits(policy)
            if failing:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert all(now is was for now, was in zip(linears(policy), layers, strict=True))
    assert all(torch.equal(now, was) for now, was in zip(policy.model.parameters(), weights, strict=True))
    after = policy.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    ("settings", "on_gpu", "dense"),
    [
        ({}, False, True),
        ({"policy__quantization": "none"}, False, True),
        ({"rollout__dense_weights": "no"}, False, False),
        ({"policy__dtype": "bfloat16"}, False, False),  # merging loses small adapters
        ({}, True, False),
    ],
)
def test_only_where_it_is_exact_and_helps(settings: dict[str, str], on_gpu: bool, dense: bool) -> None:
    shape = KNOWN["Qwen/Qwen2.5-0.5B-Instruct"]  # 1.4 GiB in float32: too large
    assert not workload_of(tiny_config(**settings), shape, on_gpu).dense
    assert workload_of(tiny_config(**settings), replace(shape, layers=12), on_gpu).dense == dense


def test_a_sampler_is_as_dense_as_the_plan_says() -> None:
    for dense in ("yes", "no"):
        with assemble(
            settle(read_request(["--preset", "tiny", "--rollout.dense-weights", dense], "test").config)
        ) as parts:
            assert parts.sampler.dense == (dense == "yes")
