"""Which of torch's attention kernels a run would reach, on cards that are not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.card import Driver
from support.card_tensors import card
from support.tiny_models import live_units, save_base, tiny_config, tiny_trainer
from support.workloads import QLORA

from expo_lite.config.settings import PolicyConfig
from expo_lite.core.records import TrainingSequence
from expo_lite.memory.budget import plan_on, workload_of
from expo_lite.memory.cap import place_here
from expo_lite.memory.plan import activation_bytes
from expo_lite.memory.shapes import KNOWN
from expo_lite.model.grouped_attention import GROUPED_DECODING, REPEATED_HEADS
from expo_lite.model.policy import load_policy
from expo_lite.model.sampler import Sampler, SampleRequest

ROLLOUT = TrainingSequence([3, 7, 9, 12, 4], [8, 15, 9, 16, 2], advantage=1.0, policy_weight=0.1)
ALIKE = [SampleRequest([3, 5, 4], 2, ("a",)), SampleRequest([3, 8, 4], 2, ("b",))]
PADDED = [ALIKE[0], SampleRequest([3, 5, 4, 11, 6], 2, ("c",))]


def sample_and_train(
    folder: Path, driver: Driver, dtype: str, requests: list[SampleRequest]
) -> tuple[set[str], set[str]]:
    """The kernels that sampling takes, and those of one update. Four query heads share two key heads."""
    config = PolicyConfig(
        model=str(folder), device="cuda", dtype=dtype, quantization="none", lora_rank=4, gradient_checkpointing=True
    )  # type: ignore[arg-type]
    policy = load_policy(config, 0)
    driver.attention.clear()
    Sampler(policy, live_units()).sample(requests, 4)
    sampling = set(driver.attention)
    driver.attention.clear()
    tiny_trainer(tiny_config(), policy).updater.update([ROLLOUT])
    return sampling, set(driver.attention)


@pytest.mark.parametrize(("name", "dtype"), [("t4", "float16"), ("t4", "float32"), ("4090", "float32")])
def test_without_flash_no_kernel_holds_all_scores(tmp_path: Path, name: str, dtype: str) -> None:
    folder = save_base(tmp_path)
    for requests in (ALIKE, PADDED):
        with card(name) as driver:
            assert sample_and_train(folder, driver, dtype, requests) == ({"efficient"}, {"efficient"})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_with_flash_queries_stay_grouped(tmp_path: Path, dtype: str) -> None:
    with card("4090") as driver:
        assert sample_and_train(save_base(tmp_path), driver, dtype, ALIKE) == ({"flash"}, {"flash"})


def test_repeated_heads_give_the_same_numbers(tmp_path: Path) -> None:
    """And the same gradients."""
    policy = load_policy(PolicyConfig(model=str(save_base(tmp_path)), device="cpu", quantization="none"), 0)
    ids, found = torch.tensor([[3, 7, 9, 12, 4], [3, 8, 15, 9, 2]]), {}
    for attention in (GROUPED_DECODING, REPEATED_HEADS):
        policy.causal_lm.set_attn_implementation(attention)
        hidden = policy.hidden_states(ids)
        found[attention] = (hidden.detach(), torch.autograd.grad(hidden.square().sum(), policy.trainable))
    torch.testing.assert_close(found[REPEATED_HEADS], found[GROUPED_DECODING], atol=1e-4, rtol=1e-4)


def test_the_plan_counts_repeated_heads() -> None:
    """Of a 7B model: (3584 - 512) more key and value numbers of two bytes for each token of one block."""
    shape = KNOWN["Qwen/Qwen2.5-7B-Instruct"]
    more = activation_bytes(shape, replace(QLORA, repeats_kv=True), 1000) - activation_bytes(shape, QLORA, 1000)
    assert more == 2 * 2 * (3584 - 512) * 1000


def test_which_plans_do() -> None:
    shape = KNOWN["Qwen/Qwen2.5-7B-Instruct"]
    half, wide = tiny_config(), tiny_config(policy__dtype="float32")
    assert [workload_of(half, shape, True, old).repeats_kv for old in (False, True)] == [False, True]
    assert [workload_of(wide, shape, on_gpu).repeats_kv for on_gpu in (False, True)] == [False, True]


@pytest.mark.parametrize(("name", "repeats"), [("t4", True), ("4090", False)])
def test_the_plan_of_a_run_knows_its_card(name: str, repeats: bool) -> None:
    config = tiny_config(policy__model="Qwen/Qwen2.5-1.5B-Instruct", memory__budget_gib=14)
    with card(name):
        planned = plan_on(config, place_here(torch.device("cuda", 0)))
    assert planned.workload.repeats_kv == repeats
