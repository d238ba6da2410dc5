"""Dense copies for sampling: the same numbers as the 4-bit layers, and no trace left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from tiny_models import ARCHITECTURES, nf4_policy, save_base
from torch import Tensor

from expo_lite.dense import dense_linears
from expo_lite.policy import Policy, quantised_linears

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


def test_only_where_it_is_exact_and_fits(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert policy.wants_dense("auto")
    assert (policy.wants_dense("yes"), policy.wants_dense("no")) == (True, False)
    monkeypatch.setattr("expo_lite.policy.DENSE_LIMIT_BYTES", 4 * 2 * 64 * (64 + 32 + 32 + 64 + 3 * 128))
    assert policy.wants_dense("auto")  # exactly all linear layers
    monkeypatch.setattr("expo_lite.policy.DENSE_LIMIT_BYTES", 4 * 2 * 64 * (64 + 32 + 32 + 64 + 3 * 128) - 1)
    assert not policy.wants_dense("auto")


def test_not_under_a_16_bit_base(tmp_path: Path) -> None:
    assert not nf4_policy(save_base(tmp_path / "base"), dtype="bfloat16").wants_dense("auto")
