"""What stands for LoRA layers while generating: the same numbers, and no trace left behind."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from support.tiny_models import ARCHITECTURES, nf4_policy, save_base, tiny_config
from torch import Tensor

from expo_lite.config.read import read_request
from expo_lite.memory.budget import workload_of
from expo_lite.memory.shapes import KNOWN
from expo_lite.model.base import quantised_linears
from expo_lite.model.generation_linears import LightLora, dense_copy, light_copy, replaced_linears
from expo_lite.model.policy import Policy
from expo_lite.runs.assemble import assemble, settle

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

IDS = torch.tensor([[3, 7, 9, 12, 4, 8, 20, 2], [3, 11, 5, 4, 9, 2, 6, 1]])


@pytest.fixture(scope="module", params=ARCHITECTURES)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return nf4_policy(save_base(tmp_path_factory.mktemp(request.param) / "base", request.param))


MAKERS = {"dense": dense_copy, "light": partial(light_copy, dtype=torch.float32)}
either = pytest.mark.parametrize("kind", MAKERS)


def others(policy: Policy, kind: str) -> AbstractContextManager[None]:
    return replaced_linears(policy.model, MAKERS[kind])


@torch.no_grad()
def logits(policy: Policy) -> Tensor:
    return policy.causal_lm(IDS).logits


def linears(policy: Policy) -> list[LoraLayer]:
    return [module for module in policy.model.modules() if isinstance(module, LoraLayer)]


@either
def test_the_policys_logits(policy: Policy, kind: str) -> None:
    before = logits(policy)
    with others(policy, kind):
        assert not linears(policy)  # all of them are replaced
        assert bool(quantised_linears(policy.model)) == (kind == "light")
        torch.testing.assert_close(logits(policy), before, atol=1e-4, rtol=0)
    assert torch.equal(logits(policy), before)


@either
def test_the_references_logits(policy: Policy, kind: str) -> None:
    with policy.reference():
        before = logits(policy)
        with others(policy, kind):
            assert not any(isinstance(module, LightLora) for module in policy.model.modules())
            torch.testing.assert_close(logits(policy), before, atol=1e-4, rtol=0)
    assert (logits(policy) - before).abs().max() > 0.01  # the adapter matters


@either
def test_an_updated_adapter_is_taken_anew(policy: Policy, kind: str) -> None:
    with others(policy, kind):
        before = logits(policy)
    with torch.no_grad():
        policy.trainable[1].mul_(2)
    with others(policy, kind):
        after = logits(policy)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, logits(policy), atol=1e-4, rtol=0)


@either
@pytest.mark.parametrize("failing", [False, True])
def test_everything_is_back_afterwards(policy: Policy, kind: str, failing: bool) -> None:
    layers, weights = linears(policy), [p.detach().clone() for p in policy.model.parameters()]
    state = {name: value.clone() for name, value in policy.model.state_dict().items() if isinstance(value, Tensor)}
    try:
        with others(policy, kind):
            logits(policy)
            if failing:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert all(now is was for now, was in zip(linears(policy), layers, strict=True))
    assert all(torch.equal(now, was) for now, was in zip(policy.model.parameters(), weights, strict=True))
    after = policy.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in state.items())


@pytest.mark.parametrize("bias", [False, True])
def test_a_scale_that_is_no_power_of_two(bias: bool) -> None:
    """x W' + 3 x A' B' by hand, beside PEFT's own layer."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(6, 4, bias=bias))
    model = get_peft_model(base, LoraConfig(r=2, lora_alpha=6, target_modules=["0"], init_lora_weights=False))
    layer, x = model.base_model.model[0], torch.randn(2, 5, 6)
    by_hand = layer.get_base_layer()(x) + 3 * x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
    torch.testing.assert_close(layer(x), by_hand)
    for make in MAKERS.values():
        torch.testing.assert_close(make(layer)(x), by_hand)


@pytest.mark.parametrize(
    ("settings", "on_gpu", "dense"),
    [
        ({}, False, True),
        ({"policy__quantization": "none"}, False, True),
        ({"rollout__dense_weights": "no"}, False, False),
        ({"policy__dtype": "bfloat16"}, False, False),  # merging loses small adapters
        ({"policy__backend": "unsloth"}, False, False),  # its code looks into its own layers
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
